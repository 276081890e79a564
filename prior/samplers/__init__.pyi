from .ddim import DDIM as DDIM
from .ddpm import DDPM as DDPM
from .heun import Heun as Heun
from .loop import Guidance as Guidance
from .loop import Progress as Progress
from .loop import Sampler as Sampler
