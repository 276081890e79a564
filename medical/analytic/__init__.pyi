from . import filters as filters
from . import weights as weights
from .fbp import fbp as fbp
from .fdk import fdk as fdk
