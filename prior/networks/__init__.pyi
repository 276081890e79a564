from .adm import ADMConfig as ADMConfig
from .adm import ADMUNet as ADMUNet
from .adm import SuperResUNet as SuperResUNet
from .adm_classifier import ADMClassifier as ADMClassifier
from .ncsnpp import NCSNpp as NCSNpp
from .ncsnpp_configuration import NCSNppConfig as NCSNppConfig
from .residual_unet import ResidualUNet as ResidualUNet
