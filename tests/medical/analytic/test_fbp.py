"""Filtered backprojection: absolute scale for every geometry and spacing, position, gradients, and errors."""

import math

import pytest
import torch

from medical.analytic import fbp
from medical.geometry import ConeBeam, Detector, FanBeam, ParallelBeam, VectorBeam, Volume, uniform
from medical.phantoms import Ellipses

TURN = 2 * math.pi
RADIUS, CENTRE = 20.0, (3.3, -4.7)
DSO, DOD = 80.0, 48.0


def full(views=240):
    return uniform(views, 0.0, TURN)


def columns(du, part=1.0, offset=0.0, curved=False):
    return Detector(int(66 * part / du) | 1, 1.6 * du, offset, curved)


def short(du, curved, excess=0.0):
    d = columns(du, curved=curved)
    span = math.pi + 2 * max(FanBeam((0.0,), d, DSO, DOD).fan_angles) + excess
    return FanBeam(uniform(200, 0.4, 0.4 + span), d, DSO, DOD)


BEAMS = {
    "parallel": lambda du: ParallelBeam.uniform(160, Detector(int(64 / du), du)),
    "parallel_shifted": lambda du: ParallelBeam.uniform(160, Detector(int(64 / du), du, 1.37)),
    "parallel_turn": lambda du: ParallelBeam.uniform(241, Detector(int(64 / du), du), TURN),
    "parallel_half_detector": lambda du: ParallelBeam(full(400), Detector(int(40 / du), du, 8.7)),
    "parallel_golden": lambda du: ParallelBeam([1.9416 * k for k in range(6)] + list(uniform(161)), Detector(int(64 / du), du)),
    "flat": lambda du: FanBeam(full(), columns(du), DSO, DOD),
    "flat_shifted": lambda du: FanBeam(full(), columns(du, offset=1.1), DSO, DOD),
    "flat_half_detector": lambda du: FanBeam(full(400), columns(du, 0.65, -13.0), DSO, DOD),
    "flat_short": lambda du: short(du, False),
    "flat_longer": lambda du: short(du, False, 0.8),
    "curved": lambda du: FanBeam(full(), columns(du, curved=True), DSO, DOD),
    "curved_half_detector": lambda du: FanBeam(full(400), columns(du, 0.65, 13.0, True), DSO, DOD),
    "curved_short": lambda du: short(du, True),
}


def disc(beam, volume, **options):
    """``(image, distance to the disc's middle)``."""
    image = fbp(Ellipses.disc(RADIUS, CENTRE).project(beam)[None, None], volume, beam, **options)[0, 0]
    return image, torch.hypot(volume.axis(-1) - CENTRE[0], volume.axis(-2)[:, None] - CENTRE[1])


@pytest.mark.parametrize(("h", "du"), [(1.0, 1.0), (0.5, 2.0), (2.0, 0.5), (0.5, 0.5), (2.0, 2.0)])
@pytest.mark.parametrize("make", BEAMS.values(), ids=BEAMS.keys())
def test_a_disc_of_one_is_one(make, h, du):
    image, r = disc(make(du), Volume((int(54 / h), int(59 / h)), h))
    inside = image[r < RADIUS - 4 * max(1.0, du)]
    assert inside.mean() == pytest.approx(1.0, abs=2e-3)
    assert (inside - 1).abs().max() < (0.003 if du < 1 else 0.007 if du == 1 else 0.01)


@pytest.mark.parametrize("offset", [1.1, 8.0, 13.0])
@pytest.mark.parametrize("curved", [False, True])
def test_no_dot_on_the_axis(curved, offset):
    """Every view sees the axis at the same place between two columns, so that errors of the weights add up there."""
    beam = FanBeam(full(400), columns(2.0, 1.2 - offset / 24, offset, curved), DSO, DOD)
    volume = Volume((27, 29), 2.0)
    image, _ = disc(beam, volume)
    axis = torch.hypot(volume.axis(-1), volume.axis(-2)[:, None]) < 2
    assert (image[axis] - 1).abs().max() < 0.005


@pytest.mark.parametrize("make", [BEAMS[k] for k in ("parallel", "flat_shifted", "flat_half_detector", "flat_short", "curved")])
def test_the_disc_is_where_it_was(make):
    volume = Volume((61, 58), (0.9, 1.1), (-2.0, 1.0))
    image, r = disc(make(1.0), volume)
    image = image * (r < RADIUS + 3)
    for axis, middle in ((-1, CENTRE[0]), (-2, CENTRE[1])):
        mass = image.sum(-2 if axis == -1 else -1)
        assert ((mass * volume.axis(axis)).sum() / mass.sum() - middle).abs() < 0.02


def test_head():
    """From 180 views, exact line integrals, linear interpolation, no window, against the means over the pixels."""
    volume, beam, head = Volume((256, 256)), ParallelBeam.uniform(180, 257), Ellipses.shepp_logan(256.0)
    truth = head.rasterise(volume)
    y = head.project(beam)[None, None].float()

    def psnr(**options):
        return float(-10 * (fbp(y, volume, beam, **options)[0, 0] - truth).square().mean().log10())

    assert psnr() > 32.3
    assert psnr(window="shepp-logan") > 32.8
    assert psnr(window="hann") < psnr(window="hamming") < psnr(window="cosine") < psnr()
    assert psnr(cutoff=0.5) < psnr() - 2


def test_corners_beyond_the_detector():
    beam = ParallelBeam.uniform(160, Detector(51, 1.0))
    image, r = disc(beam, Volume((80, 80)))
    wide, _ = disc(ParallelBeam.uniform(160, Detector(141, 1.0)), Volume((80, 80)))
    torch.testing.assert_close(image, wide, rtol=0, atol=1e-10)
    assert image[r > RADIUS + 4].abs().mean() < 0.02


def test_limited_angles_lose_what_they_miss():
    beam = ParallelBeam(uniform(120, 0.0, 2.0), 65)
    y = Ellipses.disc(10.0).project(beam)[None, None]
    image = fbp(y, Volume((33, 33)), beam)
    torch.testing.assert_close(image, fbp(y, Volume((33, 33)), beam, scan="limited"))
    assert image[0, 0, 16, 16] == pytest.approx(2 / math.pi, abs=0.01)


def test_rows_of_a_parallel_beam_are_slices():
    beam = ParallelBeam.uniform(60, Detector((5, 33), (2.0, 1.0), (0.5, 0.3)))
    y = torch.rand(2, 1, *beam.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat = ParallelBeam(beam.angles, Detector(33, 1.0, 0.3))
    planes = torch.stack([fbp(y[..., k, :], Volume((20, 22), flip_y=False), flat) for k in range(5)], 2)
    torch.testing.assert_close(fbp(y, Volume((5, 20, 22), (2.0, 1.0, 1.0), (0.5, 0.0, 0.0)), beam), planes)
    between = fbp(y, Volume((1, 20, 22), 1.0, (-1.0, 0.0, 0.0)), beam)[:, :, 0]
    torch.testing.assert_close(between, 0.75 * planes[:, :, 1] + 0.25 * planes[:, :, 2])
    assert fbp(y, Volume((1, 20, 22), 1.0, (6.0, 0.0, 0.0)), beam).abs().max() == 0


@pytest.mark.parametrize("make", [BEAMS[k] for k in ("parallel", "flat", "curved_half_detector")])
def test_batches_and_precision(make):
    beam, volume = make(2.0), Volume((24, 27), 1.5)
    y = torch.rand(3, 1, *beam.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image = fbp(y, volume, beam)
    torch.testing.assert_close(image[1:2], fbp(y[1:2], volume, beam), rtol=0, atol=1e-12)
    single = fbp(y.float(), volume, beam)
    assert single.dtype == torch.float32
    assert (single - image).abs().max() < 2e-6 * image.abs().max()
    assert fbp(y[:0], volume, beam).shape == (0, 1, 24, 27)


def test_blocks_of_views(monkeypatch):
    beam, volume = BEAMS["flat"](2.0), Volume((24, 27), 1.5)
    y = torch.rand(1, 1, *beam.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image = fbp(y, volume, beam)
    monkeypatch.setattr("medical.analytic.reconstruction.CHUNK", 2000)
    torch.testing.assert_close(fbp(y, volume, beam), image, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [BEAMS[k] for k in ("parallel", "flat", "curved")])
def test_gradient(make):
    beam, volume = make(8.0)[::40], Volume((5, 4), 8.0)
    y = torch.rand(2, 1, *beam.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    options = {"scan": "full"}
    assert torch.autograd.gradcheck(lambda y: fbp(y, volume, beam, **options), y, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda y: fbp(y, volume, beam, **options).square(), y, fast_mode=True)


PARALLEL, FAN = ParallelBeam.uniform(8, 9), FanBeam(full(8), 9, DSO, DOD)
SQUARE = Volume((6, 6))


def zeros(beam, dtype=torch.float32):
    return torch.zeros(1, 1, *beam.shape, dtype=dtype)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fbp(zeros(FAN)[..., 1:], SQUARE, FAN), ValueError, r"shape \(B, 1, 8, 9\)"),
        (lambda: fbp(zeros(FAN)[0], SQUARE, FAN), ValueError, r"shape \(B, 1, 8, 9\)"),
        (lambda: fbp(zeros(FAN) / 0, SQUARE, FAN), ValueError, "72 NaN"),
        (lambda: fbp(zeros(FAN, torch.int32), SQUARE, FAN), TypeError, "float32 or float64"),
        (lambda: fbp(zeros(FAN), SQUARE, FAN, window="box"), ValueError, "window must be one of ram-lak"),
        (lambda: fbp(zeros(FAN), SQUARE, FAN, cutoff=0.0), ValueError, "cutoff"),
        (lambda: fbp(zeros(FAN), SQUARE, FAN, scan="half"), ValueError, "scan must be one of auto"),
        (lambda: fbp(zeros(FAN), Volume((2, 6, 6)), FAN), ValueError, "slice by slice"),
        (lambda: fbp(zeros(FAN), Volume((200, 200)), FAN), ValueError, "source's circle"),
        (lambda: fbp(zeros(PARALLEL), SQUARE, VectorBeam.of(PARALLEL)), TypeError, "SIRT or CGLS"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_scan_too_short_says_so():
    beam = FanBeam(uniform(90, 0.0, math.pi), columns(1.0), DSO, DOD)
    y = zeros(beam)
    with pytest.raises(ValueError, match=r"angles cover 180.0 degrees; a short scan needs .* 225"):
        fbp(y, Volume((60, 60)), beam)
    with pytest.raises(ValueError, match="more than half a turn"):
        fbp(y[:, :, :80], Volume((60, 60)), beam[:80], scan="short")
    assert fbp(y, Volume((60, 60)), beam, scan="limited").shape == (1, 1, 60, 60)


def test_a_cone_comes_to_fdk():
    beam = ConeBeam(full(30), Detector((5, 33), 2.0), DSO, DOD)
    volume = Volume((3, 20, 20), 1.5)
    image = fbp(Ellipses.disc(10.0).project(beam)[None, None], volume, beam)
    assert image.shape == (1, 1, 3, 20, 20)
    assert image[0, 0, 1, 8:12, 8:12].mean() == pytest.approx(1.0, abs=0.02)
