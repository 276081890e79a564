from .centred import centred_fft as centred_fft
from .centred import centred_ifft as centred_ifft
from .nufft import NUFFT as NUFFT
from .projector import Projector as Projector
from .real_images import RealImages as RealImages
from .rotate import RotateRadon as RotateRadon
from .sense import Sense as Sense
from .toeplitz import Toeplitz as Toeplitz
