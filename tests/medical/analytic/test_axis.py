"""The axis of rotation, from the centres of mass."""

import pytest
import torch

from medical.analytic.axis import axis_offset
from medical.geometry import Detector, FanBeam, ParallelBeam, uniform
from medical.phantoms import Ellipses


@pytest.mark.parametrize("shift", [-7.3, 0.0, 4.25])
@pytest.mark.parametrize("stop", [2.2, 3.141592653589793])
def test_finds_the_offset(shift, stop):
    # sampled lines see the centre of a disc to about a tenth of their distance
    true = ParallelBeam(uniform(60, 0.0, stop), Detector(960, 0.1, shift))
    y = Ellipses.disc(11.0, (6.0, -9.0)).project(true)[None, None]
    assert axis_offset(y, ParallelBeam(true.angles, Detector(960, 0.1))) == pytest.approx(shift, abs=1e-3)
    assert axis_offset(y, true) == pytest.approx(shift, abs=1e-3)


def test_bad_input():
    beam = ParallelBeam.uniform(8, 10)
    with pytest.raises(TypeError, match="ParallelBeam, got FanBeam"):
        axis_offset(torch.ones(1, 1, 8, 10), FanBeam.uniform(8, 10, 30.0, 10.0))
    with pytest.raises(ValueError, match=r"\(B, 1, 8, 10\), got \(1, 1, 8, 9\)"):
        axis_offset(torch.ones(1, 1, 8, 9), beam)
    with pytest.raises(ValueError, match="three views, got 2"):
        axis_offset(torch.ones(1, 1, 2, 10), beam[:2])
    with pytest.raises(ValueError, match="sum to nothing"):
        axis_offset(torch.zeros(1, 1, 8, 10), beam)
