from .misfit import ChiSquare as ChiSquare
from .misfit import chi_square as chi_square
from .portions import split_by_chunks as split_by_chunks
from .subjects import calibrate as calibrate
from .subjects import magnitudes as magnitudes
from .subjects import voxel_scores as voxel_scores
