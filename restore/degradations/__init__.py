"""What cameras, resizing and compression do to photographs, stage by stage and as whole pipelines. Imports are lazy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
