"""A few stored numbers of ASTRA and of independent references, copied: they check the maths where the parity folder is absent.

Fifty samples of each trajectory are kept, and the coils in float32; the rest is as it was.
"""

from pathlib import Path

import pytest
import torch

from medical.operators import NUFFT, Sense
from tests.parity.cases import Case, kind_of
from tests.parity.test_ct_projectors import check, outputs

DATA = Path(__file__).parents[1] / "data"


def stored(system: str, name: str) -> Case:
    return Case(name, system, kind_of(system, name, {}), DATA)


@pytest.mark.parametrize(("case", "key"), outputs([stored("ct", name) for name in ("parallel2d", "fan2d", "cone3d_voxel")]))
def test_projectors(case, key):
    check(case, key, torch.float64)


def test_sense():
    case = stored("mri_ops", "sense")
    image, maps, y, back = (torch.view_as_complex(case[key]) for key in ("image", "sens", "y", "AH_y"))
    A = Sense(maps, case["mask"])
    torch.testing.assert_close(A(image[None, None])[0], y, atol=2e-6, rtol=0)
    torch.testing.assert_close(A.adjoint(y[None])[0, 0], back, atol=2e-6, rtol=0)


@pytest.mark.parametrize("backend", ["finufft", "torch"])
@pytest.mark.parametrize("name", ["radial", "spiral"])
def test_nufft(name, backend):
    case = stored("mri_ops", "nufft")
    image, wanted = (torch.view_as_complex(case[key]) for key in ("image", f"{name}_y"))
    for dtype, tolerance in ((torch.complex128, 1e-10), (torch.complex64, 1e-5)):
        y = NUFFT(case[f"{name}_traj"], tuple(image.shape), backend=backend)(image[None, None].to(dtype))[0, 0]
        assert float((y - wanted).norm()) <= tolerance * float(wanted.norm())
