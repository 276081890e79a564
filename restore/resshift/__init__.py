"""ResShift: restoration along a chain from the degraded image to the clean one. Imports are lazy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
