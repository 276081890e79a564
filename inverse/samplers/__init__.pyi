from .dps import DPS as DPS
from .flowchef import FlowChef as FlowChef
from .mcg import MCG as MCG
from .optimizers import SGD as SGD
from .optimizers import Adam as Adam
from .optimizers import Implicit as Implicit
from .pigdm import PiGDM as PiGDM
from .reddiff import RedDiff as RedDiff
