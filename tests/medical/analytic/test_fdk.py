"""Cone beams: absolute scale in the slices that a circle and a helix determine, balls where they were, gradients, errors."""

import math

import pytest
import torch

from medical.analytic import fbp, fdk
from medical.analytic.pixels import Pixels, backproject
from medical.geometry import ConeBeam, Detector, FanBeam, ParallelBeam, Volume, uniform
from medical.phantoms import Ellipses, Ellipsoids

TURN = 2 * math.pi
DSO, DOD = 80.0, 48.0
RADIUS, CENTRE = 20.0, (3.3, -4.7)


def detector(part=1.0, offset=0.0, curved=False):
    return Detector((9, int(66 * part) | 1), 1.6, (0.0, offset), curved)


def circle(d, span=TURN):
    return ConeBeam(uniform(320, 0.4, 0.4 + span), d, DSO, DOD)


BEAMS = {
    "circle_flat": lambda: circle(detector()),
    "circle_curved": lambda: circle(detector(curved=True)),
    "short_flat": lambda: circle(detector(), math.pi + 0.85),
    "short_curved": lambda: circle(detector(curved=True), math.pi + 0.85),
    "half_flat": lambda: circle(detector(0.65, 13.0)),
    "half_curved": lambda: circle(detector(0.65, -13.0, True)),
    "helix_flat": lambda: ConeBeam.helical(540, detector(), DSO, DOD, 6.0, 3.0),
    "helix_curved": lambda: ConeBeam.helical(540, detector(curved=True), DSO, DOD, -6.0, 3.0),
    "helix_half": lambda: ConeBeam.helical(960, detector(0.65, 13.0), DSO, DOD, 4.0, 3.0),
}


@pytest.mark.parametrize("make", BEAMS.values(), ids=BEAMS.keys())
def test_a_disc_of_one_is_one_in_the_middle(make):
    beam, volume = make(), Volume((3, 29, 31), (0.5, 2.0, 1.9))
    y = Ellipses.disc(RADIUS, CENTRE).project(beam)[None, None]
    image = fdk(y, volume, beam)[0, 0, 1]
    r = torch.hypot(volume.axis(-1) - CENTRE[0], volume.axis(-2)[:, None] - CENTRE[1])
    inside = image[r < RADIUS - 4]
    assert inside.mean() == pytest.approx(1.0, abs=2e-3)
    assert (inside - 1).abs().max() < 0.008


@pytest.mark.parametrize("curved", [False, True])
def test_the_plane_of_the_circle_is_a_fan(curved):
    cone = ConeBeam(uniform(60, 0.0, TURN), Detector((3, 45), 1.5, (0.0, 0.7), curved), DSO, DOD)
    fan = FanBeam(cone.angles, Detector(45, 1.5, 0.7, curved), DSO, DOD)
    y = Ellipses.shepp_logan(36.0).project(cone)[None, None]
    plane = Volume((24, 22), 1.5, (2.0, -1.0))
    torch.testing.assert_close(fdk(y, plane, cone), fbp(y[..., 1, :], plane, fan), rtol=0, atol=1e-7)


@pytest.mark.parametrize("pitch", [0.0, 14.0])
@pytest.mark.parametrize("curved", [False, True])
def test_a_ball_away_from_the_middle(curved, pitch):
    d = Detector((36, 60), 1.6, curved=curved)
    beam = ConeBeam.helical(300, d, DSO, DOD, pitch, 3.0) if pitch else ConeBeam(uniform(120, 0.0, TURN), d, DSO, DOD)
    x, y, z = centre = (4.2, -6.1, 5.3)
    volume = Volume((20, 22, 24), 1.0, (5.0, -6.0, 4.0))
    image = fdk(Ellipsoids.ball(6.0, centre).project(beam)[None, None], volume, beam)[0, 0]
    distance = torch.stack(
        torch.broadcast_tensors(volume.axis(0)[:, None, None] - z, volume.axis(1)[:, None] - y, volume.axis(2) - x)
    ).norm(dim=0)
    assert image[distance < 4].mean() == pytest.approx(1.0, abs=0.01)
    image = image * (distance < 8)
    for axis, middle in enumerate((z, y, x)):
        mass = image.sum([k for k in range(3) if k != axis])
        assert ((mass * volume.axis(axis)).sum() / mass.sum() - middle).abs() < 0.05


def test_turns_of_a_helix_share_the_slices():
    """Every slice between the ends has the same scale, whichever turns it takes its views from."""
    beam = ConeBeam.helical(600, Detector((13, 44), 1.6), DSO, DOD, 6.0, 5.0)
    image = fdk(Ellipses.disc(15.0).project(beam)[None, None].float(), Volume((37, 16, 16), (0.5, 1.0, 1.0)), beam)[0, 0]
    assert (image.mean((-1, -2)) - 1).abs().max() < 4e-3


@pytest.mark.parametrize(
    "make", [BEAMS["circle_curved"], BEAMS["helix_flat"], lambda: ParallelBeam.uniform(9, Detector((9, 40)))]
)
def test_compiled_and_torch_backprojection_agree(make):
    beam = make()[::20]
    volume = Volume((7, 12, 13), 2.0, (1.0, 0.0, 3.0))
    pixels = Pixels.of(volume, beam)
    q = torch.rand(2, len(beam), beam.detector.columns, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image = pixels.gather(q)
    assert (image != 0).float().mean() > 0.5
    torch.testing.assert_close(backproject(q, pixels), image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("pitch", [0.0, 4.0])
def test_gradient(curved, pitch):
    beam = ConeBeam(uniform(4, 0.0, TURN), Detector((2, 3), (3.0, 8.0), curved=curved), DSO, DOD, pitch)
    y = torch.rand(1, 1, 4, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: fdk(y, Volume((2, 2, 3), 5.0), beam), y, fast_mode=True)


def test_a_gradient_takes_as_many_views_at_a_time_as_all_slices_allow(monkeypatch):
    beam, volume, views = ConeBeam(uniform(12, 0.0, TURN), Detector((8, 8), 3.0), DSO, DOD), Volume((5, 4, 3), 2.0), []
    gather = Pixels.gather
    monkeypatch.setattr("medical.analytic.pixels.CHUNK", 2 * math.prod(volume.shape))
    monkeypatch.setattr(Pixels, "gather", lambda self, q: views.append(len(self.views)) or gather(self, q))
    fdk(torch.rand(1, 1, *beam.shape, requires_grad=True), volume, beam).sum().backward()
    assert views == [2] * 6


@pytest.mark.parametrize(
    ("beam", "options", "error", "message"),
    [
        (ParallelBeam.uniform(8, (3, 9)), {}, TypeError, "must be a ConeBeam"),
        (ConeBeam.helical(8, (3, 9), DSO, DOD, 2.0, 0.8), {}, ValueError, "at least one turn, got 0.8"),
        (ConeBeam.helical(8, (3, 9), DSO, DOD, 2.0, 1.5), {"scan": "short"}, ValueError, "for a helix"),
        (ConeBeam(uniform(8, 0.0, 3.0), (3, 9), DSO, DOD), {}, ValueError, "a short scan needs"),
        (ConeBeam.circular(8, Detector((3, 9)), DSO, DOD), {"window": "none"}, ValueError, "window"),
    ],
)
def test_bad_input(beam, options, error, message):
    with pytest.raises(error, match=message):
        fdk(torch.zeros(1, 1, *beam.shape), Volume((2, 6, 6)), beam, **options)
