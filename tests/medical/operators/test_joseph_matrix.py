"""The kept matrix of small pictures: the numbers of the compiled loops, and where it takes over."""

import pytest
import torch

from medical.geometry import ParallelBeam, Volume
from medical.operators import Projector, joseph_matrix
from medical.operators.joseph_cpu import SliceJoseph
from medical.operators.joseph_matrix import MatrixJoseph, entries
from tests.medical.operators.examples import FLAT, random_geometry


@pytest.mark.parametrize("members", [1, 3, 9])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", FLAT)
def test_equals_the_compiled_loops(kind, seed, members):
    volume, beam = random_geometry(kind, seed)
    kept, walked = MatrixJoseph(volume, beam.rays()), SliceJoseph(volume, beam.rays())
    x = torch.randn(members, *volume.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.randn(members, *beam.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(kept.forward(x), walked.forward(x), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(kept.adjoint(y), walked.adjoint(y), atol=1e-12, rtol=1e-12)
    single = kept.forward(x.float())
    assert single.dtype == torch.float32
    assert (single.double() - kept.forward(x)).abs().max() <= 1e-6 * (kept.forward(x.abs()).max() + 1)
    gap = (kept.forward(x) * y).sum() - (x * kept.adjoint(y)).sum()
    assert gap.abs() <= 1e-13 * kept.forward(x).norm() * y.norm() + 1e-13


def test_takes_over_where_it_is_small(monkeypatch):
    volume, beam = Volume((16, 12)), ParallelBeam.uniform(10, 23)
    count = entries(volume, beam.rays())
    assert 10 * 16 * 12 < count < 4 * 10 * 16 * 12  # each pixel is met about once or twice a view
    for most, kernel in ((count, MatrixJoseph), (count - 1, SliceJoseph)):
        monkeypatch.setattr(joseph_matrix, "MOST_ENTRIES", most)
        assert type(Projector(volume, beam)._kernel(torch.device("cpu"))) is kernel
