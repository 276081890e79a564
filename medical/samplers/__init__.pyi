from .dds import DDS as DDS
from .diffusion_mbir import DiffusionMBIR as DiffusionMBIR
from .run import Run as Run
from .slice_noise import SliceNoise as SliceNoise
