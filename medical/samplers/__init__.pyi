from .dds import DDS as DDS
from .diffusion_blend import DiffusionBlend as DiffusionBlend
from .diffusion_mbir import DiffusionMBIR as DiffusionMBIR
from .projection import MCG as MCG
from .projection import ScoreMRI as ScoreMRI
from .run import Run as Run
from .slice_noise import SliceNoise as SliceNoise
from .tpdm import TPDM as TPDM
