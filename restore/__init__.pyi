from . import degradations as degradations
from . import resshift as resshift
from .resshift.loading import ResShift as ResShift
