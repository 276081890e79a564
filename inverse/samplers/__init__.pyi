from .optimizers import SGD as SGD
from .optimizers import Adam as Adam
from .optimizers import Implicit as Implicit
from .reddiff import RedDiff as RedDiff
