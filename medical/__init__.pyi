from . import geometry as geometry
