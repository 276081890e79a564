"""Forecasts, gaps and synthetic series from an unconditional diffusion model of windows. Imports are lazy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
