"""Analytic CT: filtered backprojection and FDK, with the filters and weights that they are made of. Imports are lazy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
