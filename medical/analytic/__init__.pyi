from . import filters as filters
from . import weights as weights
from .axis import axis_offset as axis_offset
from .feldkamp import fdk as fdk
from .filtered_backprojection import fbp as fbp
