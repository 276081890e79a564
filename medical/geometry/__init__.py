"""Where voxels, source and detector are: small values that compare, slice, print and draw themselves. Imports are lazy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
