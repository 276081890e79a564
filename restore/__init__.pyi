from . import degradations as degradations
from . import resshift as resshift
