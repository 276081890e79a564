"""Blur that varies across the image, against sums of whole blurs and closed forms."""

import pytest
import torch

from inverse.operators import Blur, VaryingBlur
from inverse.operators.boundary import BOUNDARIES
from inverse.operators.varying import WEIGHTED, bilinear_weights, variance_weights
from tests.inverse.operators.examples import crooked


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(autouse=True)
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def bank(count, h, w):
    return torch.stack([crooked(h, w, seed) for seed in range(count)])


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("size", [(3, 4), (4, 3), (11, 2)])
def test_it_is_the_sum_of_weighted_blurs(boundary, size):
    """Weights that are zero nearly everywhere, and kernels larger than the image, crop nothing that is needed."""
    kernels, x = bank(12, *size), rand(2, 3, 9, 8)
    weights = bilinear_weights((4, 3), (9, 8)) * rand(12, 1, 1, seed=1)
    blurs = [Blur(k, boundary) for k in kernels]
    after = VaryingBlur(kernels, weights, boundary)
    torch.testing.assert_close(after(x), sum(w * B(x) for w, B in zip(weights, blurs, strict=True)), atol=1e-14, rtol=0)
    before = VaryingBlur(kernels, weights, boundary, weighted="input")
    torch.testing.assert_close(before(x), sum(B(w * x) for w, B in zip(weights, blurs, strict=True)), atol=1e-14, rtol=0)


@pytest.mark.parametrize("weighted", WEIGHTED)
def test_equal_kernels_are_one_blur(weighted):
    x, kernel = rand(1, 2, 7, 6), crooked(3, 5)
    A = VaryingBlur.grid(kernel.expand(3, 2, 3, 5), (2, 7, 6), weighted=weighted)
    torch.testing.assert_close(A(x), Blur(kernel)(x), atol=1e-14, rtol=0)


def test_a_point_becomes_the_kernel_of_its_place():
    """At a point of the grid that kernel, halfway between two of them their mean."""
    kernels = bank(4, 3, 3).unflatten(0, (2, 2))
    A = VaryingBlur.grid(kernels, (1, 9, 9), "zero", weighted="input")
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 0, 4] = 1
    mean = (kernels[0, 0] + kernels[0, 1]) / 2
    torch.testing.assert_close(A(x)[0, 0, 0:2, 3:6], mean[1:], atol=1e-14, rtol=0)
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 8, 8] = 1
    torch.testing.assert_close(A(x)[0, 0, 7:, 7:], kernels[1, 1, :2, :2], atol=1e-14, rtol=0)


def test_weighting_the_input_is_the_adjoint_of_weighting_the_output():
    """With zeros beyond the edge and the kernels turned by half a turn."""
    kernels, y = bank(6, 3, 5), rand(2, 1, 7, 8)
    weights = bilinear_weights((2, 3), (7, 8))
    gather = VaryingBlur(kernels, weights, "zero")
    scatter = VaryingBlur(kernels.flip(1, 2), weights, "zero", weighted="input")
    torch.testing.assert_close(gather.adjoint(y), scatter(y), atol=1e-14, rtol=0)


def test_brightness_is_kept():
    A = VaryingBlur.gaussian(torch.linspace(0.3, 2, 63).view(7, 9))
    flat = torch.full((1, 1, 7, 9), 0.3)
    torch.testing.assert_close(A(flat), flat, atol=1e-14, rtol=0)


def test_every_pixel_has_its_variance():
    """The blur of row^2 exceeds row^2 by the variance of the pixel's kernel, far from the edge."""
    sigma = torch.linspace(0.9, 1.4, 31).view(1, 31).expand(41, 31)
    A = VaryingBlur.gaussian(sigma, levels=4)
    row = torch.arange(41.0).view(1, 1, 41, 1).expand(1, 1, 41, 31)
    got = (A(row**2) - row**2)[0, 0, 20]
    torch.testing.assert_close(got, sigma[0] ** 2, atol=1e-3, rtol=0)  # the Gaussians end at four sigma


def test_one_sigma_is_one_gaussian():
    A = VaryingBlur.gaussian(torch.full((6, 7), 0.8))
    assert A.kernels.shape[0] == 1
    x = rand(1, 2, 6, 7)
    torch.testing.assert_close(A(x), Blur.gaussian(0.8)(x), atol=1e-14, rtol=0)


@pytest.mark.parametrize(("grid", "size"), [((1, 1), (4, 5)), ((2, 3), (7, 9)), ((5, 4), (5, 4)), ((3, 2), (1, 6))])
def test_bilinear_weights(grid, size):
    weights = bilinear_weights(grid, size)
    torch.testing.assert_close(weights.sum(0), torch.ones(size), atol=1e-14, rtol=0)
    assert float(weights.min()) >= 0
    if size == grid:
        assert torch.equal(weights.view(-1, 20), torch.eye(20))
    if min(size) > 1 < min(grid):
        assert float(weights[0, 0, 0]) == float(weights[-1, -1, -1]) == 1


def test_variance_weights():
    sigma, nodes = rand(5, 6) + 1, torch.linspace(1, 2, 4)
    weights = variance_weights(sigma, nodes)
    torch.testing.assert_close(weights.sum(0), torch.ones(5, 6), atol=1e-14, rtol=0)
    torch.testing.assert_close(torch.einsum("khw,k->hw", weights, nodes**2), sigma**2, atol=1e-14, rtol=0)
    assert int((weights > 0).sum(0).max()) <= 2


def test_restored_by_its_prox():
    """Little noise and a small weight of the start: most of the blur is undone."""
    A = VaryingBlur.gaussian(torch.linspace(0.4, 0.8, 64).view(8, 8), levels=3)
    x = rand(1, 1, 8, 8)
    y = A(x)
    restored = A.prox(y, y, 1e-4, iterations=500)
    assert float((restored - x).norm()) < 0.05 * float((y - x).norm())


REFUSED = {
    "kernels": (lambda: VaryingBlur(torch.ones(3, 3), torch.ones(1, 4, 4)), r"kernels must be real.*got \(3, 3\)"),
    "weights": (lambda: VaryingBlur(torch.ones(2, 3, 3), torch.ones(1, 4, 4)), r"\(2, H, W\), one a kernel, got \(1, 4, 4\)"),
    "boundary": (
        lambda: VaryingBlur(torch.ones(1, 3, 3), torch.ones(1, 4, 4), "valid"),
        "boundary must be one of reflect, symmetric, replicate, circular, zero, got 'valid'",
    ),
    "weighted": (
        lambda: VaryingBlur(torch.ones(1, 3, 3), torch.ones(1, 4, 4), weighted="both"),
        "weighted must be one of output, input, got 'both'",
    ),
    "grid": (lambda: VaryingBlur.grid(torch.ones(2, 3, 3), (1, 4, 4)), r"kernels must be \(g, f, h, w\).*got \(2, 3, 3\)"),
    "sigma": (lambda: VaryingBlur.gaussian(torch.zeros(4, 4)), r"sigma must be positive and finite, of shape \(H, W\)"),
    "levels": (lambda: VaryingBlur.gaussian(torch.ones(4, 4), levels=1), "levels must be at least 2, got 1"),
    "size": (
        lambda: VaryingBlur.gaussian(torch.ones(4, 4))(torch.zeros(1, 1, 4, 5)),
        r"x must be an image of the size of the weights, got \(1, 4, 5\)",
    ),
    "shape": (
        lambda: VaryingBlur.gaussian(torch.ones(4, 4), shape=(1, 5, 4)),
        r"shape must be an image of the size of the weights, got \(1, 5, 4\)",
    ),
    "positive": (lambda: bilinear_weights((0, 1), (2, 2)), r"grid and size must be positive, got \(0, 1\) and \(2, 2\)"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
