from .augment import Augment as Augment
from .datamodule import SliceDataModule as SliceDataModule
from .packs import read_slices as read_slices
