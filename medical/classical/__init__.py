"""Reconstruction without learned priors, one method a class, all with ``reconstruct(A, y)``. Imports are lazy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
