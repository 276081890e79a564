from . import filters as filters
from . import weights as weights
from .feldkamp import fdk as fdk
from .filtered_backprojection import fbp as fbp
