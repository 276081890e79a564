"""How far a reconstructed volume can be trusted: its misfit, what was measured of it, intervals that hold. Imports are lazy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
