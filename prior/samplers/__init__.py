"""Unconditional samplers: a step rule over a time grid, for any denoiser.

>>> from prior.samplers import DDIM
>>> DDIM(steps=20)
DDIM(steps=20, spacing=None, eta=0.0, clip=True)
"""

from prior.samplers.ddim import DDIM
from prior.samplers.ddpm import DDPM
from prior.samplers.heun import Heun
from prior.samplers.loop import Guidance, Progress, Sampler

__all__ = ["DDIM", "DDPM", "Guidance", "Heun", "Progress", "Sampler"]
