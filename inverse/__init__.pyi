from . import operators as operators
from . import samplers as samplers
from .reconstruction import Reconstruction as Reconstruction
from .samplers.reddiff import RedDiff as RedDiff
