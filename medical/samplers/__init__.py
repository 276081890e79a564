"""Volumes from priors of slices: DiffusionMBIR and its successors, all with ``reconstruct(model, A, y)``. Imports are lazy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
