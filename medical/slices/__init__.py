"""Slices of CT and MR volumes to train 2D priors on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
