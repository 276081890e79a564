"""Which points of k-space are measured, and what each is worth: masks, trajectories, densities. Imports are lazy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
