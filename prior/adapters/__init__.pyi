from .callables import from_callable as from_callable
from .diffusers import from_diffusers as from_diffusers
from .diffusers import from_latent_diffusion as from_latent_diffusion
from .edm import from_edm as from_edm
from .monai import from_monai as from_monai
from .tables import schedule_of as schedule_of
