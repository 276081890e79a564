"""Blur with nothing known beyond the edge: the measurement is smaller than the image."""

import pytest
import torch

from inverse.operators import Blur
from inverse.operators.boundary import BOUNDARIES, VALID
from tests.inverse.operators.examples import crooked


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [(3, 3), (3, 4), (4, 1), (6, 7)])
def test_it_is_the_part_that_no_boundary_touches(size):
    kernel, x = crooked(*size), rand(2, 3, 6, 7)
    y = Blur(kernel, VALID).double()(x)
    h, w = size
    top, left = h - 1 - h // 2, w - 1 - w // 2
    for boundary in BOUNDARIES:
        whole = Blur(kernel, boundary).double()(x)
        torch.testing.assert_close(y, whole[..., top : top + 7 - h, left : left + 8 - w], atol=1e-14, rtol=0)
    direct = torch.nn.functional.conv2d(x.flatten(0, 1)[:, None], kernel.float().double().flip(0, 1)[None, None])
    torch.testing.assert_close(y, direct.view(2, 3, 7 - h, 8 - w), atol=1e-14, rtol=0)


def test_shapes():
    A = Blur(crooked(3, 6), VALID)
    assert A.output_shape((3, 8, 9)) == (3, 6, 4)
    assert A.input_shape((3, 6, 4)) == (3, 8, 9)
    assert A.prox(rand(1, 3, 8, 9), rand(1, 3, 6, 4), 0.1).shape == (1, 3, 8, 9)
    padded = torch.nn.functional.pad(crooked(3, 6), (2, 2, 2, 2))
    assert Blur(padded, VALID).output_shape((3, 8, 9)) == (3, 6, 4)  # a margin of zeros costs no pixels


def test_an_even_area_stays_even():
    y = Blur.gaussian(1.0, VALID)(torch.full((1, 1, 12, 11), 0.3))
    torch.testing.assert_close(y, torch.full((1, 1, 4, 3), 0.3), atol=1e-6, rtol=0)


def test_the_least_image_that_explains_the_photo():
    A = Blur(crooked(4, 3), VALID).double()
    y = A(rand(1, 2, 12, 11))
    x = A.pinv(y, tolerance=1e-10, iterations=5000)
    torch.testing.assert_close(A(x), y, atol=1e-8, rtol=0)
    assert float((x - A.pinv(A(x), tolerance=1e-10, iterations=5000)).abs().max()) < 1e-6  # nothing in the null space


def test_a_wrong_boundary_costs_more_than_an_unknown_one():
    """Deblurred from what a camera sees of a larger scene: a circular boundary rings, an unknown one does not."""
    kernel, scene = torch.ones(7, 7) / 49, rand(1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    valid, circular = Blur(kernel, VALID).double(), Blur(kernel, "circular").double()
    photo = valid(scene)
    inside = slice(3, -3)
    start = torch.full_like(scene, float(photo.mean()))
    known = valid.prox(start, photo, 1e-3)[..., inside, inside]
    wrapped = circular.prox(start[..., inside, inside], photo, 1e-3)
    wanted = scene[..., inside, inside]
    assert float((known - wanted).norm()) < 0.5 * float((wrapped - wanted).norm())


REFUSED = {
    "small": (
        lambda: Blur(crooked(3, 4), VALID)(torch.zeros(1, 1, 2, 9)),
        "takes images of at least 3 x 4 pixels, got 2 x 9; pad them",
    ),
    "domain": (lambda: Blur(crooked(3, 4), VALID, shape=(1, 8, 3)), "at least 3 x 4 pixels, got 8 x 3"),
    "name": (lambda: Blur(crooked(3, 4), "none"), "boundary must be one of reflect, .*, valid, got 'none'"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
