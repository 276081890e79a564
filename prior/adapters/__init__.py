"""Any prior: networks and checkpoints of other libraries, and plain functions, as a :class:`prior.Denoiser`.

Nothing here imports the other library: it is enough that the object behaves as theirs does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
