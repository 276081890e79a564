"""The image operators one by one: closed forms of what they measure, and what they refuse."""

import math

import pytest
import torch

from inverse.operators import Blur, Downsample, Grayscale, Identity, Inpaint, Sample, Separable, ddrm, kernels, resize
from inverse.operators.boundary import BOUNDARIES, fold, pad
from inverse.operators.filters import Filter
from inverse.operators.resize import cubic, resize_weights
from tests.inverse.operators.examples import crooked


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PADDED = {
    "reflect": [2, 3, 2, 1, 2, 3, 2, 1, 2],
    "symmetric": [3, 3, 2, 1, 1, 2, 3, 3, 2, 1, 1],
    "replicate": [1, 1, 1, 2, 3, 3, 3],
    "circular": [2, 3, 1, 2, 3, 1, 2],
    "zero": [0, 0, 1, 2, 3, 0, 0],
}


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_padding(boundary):
    wanted = PADDED[boundary]
    margin = (len(wanted) - 3) // 2
    assert pad(torch.tensor([1.0, 2.0, 3.0]), 0, margin, margin, boundary).tolist() == wanted


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_folding_is_the_adjoint_of_padding(boundary, n):
    x, y = rand(2, n), rand(2, n + 9, seed=1)
    assert (pad(x, 1, 4, 5, boundary) * y).sum().item() == pytest.approx(
        (x * fold(y, 1, 4, 5, boundary)).sum().item(), rel=1e-12
    )


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("size", [(3, 4), (4, 3), (1, 5), (7, 7)])
def test_blur_is_the_sum_of_shifted_images(boundary, size):
    kernel, x = crooked(*size), rand(1, 1, 5, 6)
    h, w = size
    padded = pad(pad(x, -1, w, w, boundary), -2, h, h, boundary)
    wanted = sum(
        kernel[i, j] * padded[..., h - (i - h // 2) :, w - (j - w // 2) :][..., :5, :6] for i in range(h) for j in range(w)
    )
    torch.testing.assert_close(Blur(kernel, boundary).double()(x), wanted, atol=1e-7, rtol=0)


def test_a_point_becomes_the_kernel():
    kernel = crooked(3, 5)
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 4] = 1
    torch.testing.assert_close(Blur(kernel)(x)[0, 0, 3:6, 2:7].double(), kernel, atol=1e-7, rtol=0)


@pytest.mark.parametrize("boundary", ["reflect", "symmetric", "replicate", "circular"])
def test_blur_keeps_a_constant(boundary):
    x = torch.full((1, 2, 7, 9), 0.3)
    for A in (Blur.gaussian(1.5, boundary), Blur.motion(5, boundary=boundary), Blur.line(4, 20, boundary=boundary)):
        torch.testing.assert_close(A(x), x, atol=1e-6, rtol=0)


def test_gaussian_kernel():
    kernel = kernels.gaussian_kernel(3.0)
    assert kernel.shape == (25, 25)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
    assert float(kernel[12, 15] / kernel[12, 12]) == pytest.approx(math.exp(-0.5), rel=1e-12)


def test_line_kernel():
    assert kernels.line_kernel(5)[2].tolist() == pytest.approx([0.2] * 5)
    assert kernels.line_kernel(4, 90)[:, 2].tolist() == pytest.approx([0.125, 0.25, 0.25, 0.25, 0.125])
    rising = kernels.line_kernel(3, 45)  # the first row is the top
    assert float(rising[0, 2]) == float(rising[2, 0]) > 0 == float(rising[0, 0])
    assert kernels.line_kernel(1).tolist() == [[1.0]]


@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_motion_kernel(intensity):
    kernel = kernels.motion_kernel(21, intensity, seed=3)
    at = torch.arange(21, dtype=torch.float64) - 10
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
    assert float(kernel.min()) >= 0
    assert float(kernel.sum(1) @ at) == pytest.approx(0, abs=1e-9)
    assert float(kernel.sum(0) @ at) == pytest.approx(0, abs=1e-9)
    assert torch.equal(kernel, kernels.motion_kernel(21, intensity, seed=3))
    assert not torch.equal(kernel, kernels.motion_kernel(21, intensity, seed=4))


def test_a_steady_hand_draws_a_line():
    kernel = kernels.motion_kernel(21, 0.0, seed=0)
    at = torch.arange(21, dtype=torch.float64) - 10
    spread = torch.stack(torch.meshgrid(at, at, indexing="ij")).flatten(1)
    variances = torch.linalg.eigvalsh((spread * kernel.flatten()) @ spread.mT)
    assert float(variances[0]) < 0.5 < 10 < float(variances[1])  # across, along


def test_area_is_the_mean_of_blocks():
    x = rand(2, 3, 4, 6)
    A = Downsample.area(2)
    y = A(x)
    torch.testing.assert_close(y, torch.nn.functional.avg_pool2d(x, 2), atol=1e-15, rtol=0)
    torch.testing.assert_close(A.pinv(y), y.repeat_interleave(2, 2).repeat_interleave(2, 3), atol=1e-14, rtol=0)
    assert A.norm() == pytest.approx(0.5)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_bicubic_is_resize(factor):
    x = rand(1, 2, 4 * factor, 3 * factor)
    torch.testing.assert_close(Downsample.bicubic(factor)(x), resize(x, 1 / factor), atol=1e-14, rtol=0)


def test_resize_keeps_what_it_should():
    x = torch.arange(12, dtype=torch.float64).expand(1, 1, 12, 12) / 12
    assert torch.equal(resize(x, 1.0), x)
    up = resize(x, 2.0)[0, 0, 0]
    torch.testing.assert_close(up[6:-6], (torch.arange(24, dtype=torch.float64)[6:-6] / 2 - 0.25) / 12, atol=1e-14, rtol=0)
    assert resize(x, 0.7).shape == (1, 1, 9, 9)
    for scale in (0.3, 0.7, 1.5):
        assert resize_weights(10, scale)[1].sum(1).tolist() == pytest.approx([1.0] * math.ceil(10 * scale))
    assert cubic(torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0])).tolist() == [1.0, 0.5625, 0.0, -0.0625, 0.0, 0.0]


@pytest.mark.parametrize(("stride", "before"), [(1, 0), (1, 4), (2, 1), (3, 2)])
@pytest.mark.parametrize("n", [6, 72])  # within a block, and over several
def test_filter(stride, before, n):
    taps, x = rand(5), rand(2, n, n)
    F = Filter(tuple(taps.tolist()), before, "reflect", stride)
    padded = pad(x, -1, before, F.after, "reflect")
    wanted = (padded.unfold(-1, 5, stride) * taps).sum(-1)
    torch.testing.assert_close(F.apply(x, -1), wanted, atol=1e-14, rtol=0)
    torch.testing.assert_close(F.apply(x.mT, -2).mT, wanted, atol=1e-14, rtol=0)
    torch.testing.assert_close(x @ F.matrix(n).mT, wanted, atol=1e-14, rtol=0)
    y = rand(2, n, n // stride, seed=1)
    torch.testing.assert_close(F.adjoint(y, -1), y @ F.matrix(n), atol=1e-14, rtol=0)
    torch.testing.assert_close(F.adjoint(y.mT, -2).mT, y @ F.matrix(n), atol=1e-14, rtol=0)


def test_inpainting():
    A = Inpaint.random((3, 10, 10), 0.37, seed=1)
    assert (~A.mask).sum((1, 2)).tolist() == [37, 37, 37]
    assert torch.equal(A.mask[0], A.mask[2])
    assert torch.equal(A.mask, Inpaint.random((3, 10, 10), 0.37, seed=1).mask)
    assert not torch.equal(A.mask, Inpaint.random((3, 10, 10), 0.37, seed=2).mask)
    box = Inpaint.box((2, 8, 8), (1, 2, 3, 4)).mask
    assert not box[:, 1:4, 2:6].any()
    assert int(box.sum()) == 2 * (64 - 12)
    assert int(Inpaint.box((1, 8, 8)).mask.sum()) == 48
    shared = Inpaint(box[:1])
    assert torch.equal(shared(torch.ones(1, 5, 8, 8))[0, 3], box[0].float())


def test_sample_is_channel_major():
    mask = torch.tensor([[[1, 0]], [[1, 1]]])
    assert Sample(mask)(torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])).tolist() == [[1.0, 3.0, 4.0]]


def test_prox_of_inpainting_is_a_weighted_mean():
    A = Inpaint(torch.tensor([[[1, 0]]]))
    x, y = torch.tensor([[[[0.0, 0.5]]]]), torch.tensor([[[[1.0, 9.0]]]])
    assert A.prox(x, y, 3.0)[0, 0, 0].tolist() == pytest.approx([1 / 4, 0.5])


def test_ddrm_deblur_drops_the_last_tap():
    A = ddrm.deblur(ddrm.uniform_taps(3), (1, 12, 12), cutoff=0.0)
    rows = A.rows.double()
    torch.testing.assert_close(rows, (torch.eye(12) + torch.diag(torch.ones(11), -1)).double() / 3, atol=1e-7, rtol=0)


def test_singular_values_that_are_cut_off_are_exactly_zero():
    A = ddrm.deblur(ddrm.uniform_taps(), (1, 16, 16))
    s = A.svd().s
    assert float(s[s > 0].min()) >= ddrm.CUTOFF**2 * 0.99
    assert int((s == 0).sum()) > 0


def test_decomposed_sizes_are_independent():
    A = Blur.gaussian(1.0)
    for shape in ((1, 4, 5), (1, 6, 3), (1, 4, 5)):
        x, y = rand(1, *shape), rand(1, *shape, seed=1)
        u = A.double().prox(x, y, 0.1)
        torch.testing.assert_close(A.normal(u) + 0.1 * u, A.adjoint(y) + 0.1 * x, atol=1e-12, rtol=0)


REFUSED = {
    "boundary": (lambda: Blur.gaussian(1.0, "mirror"), r"boundary must be one of reflect, .*got 'mirror'"),
    "kernel rank": (lambda: Blur(torch.ones(3)), r"kernel must be real, of shape \(h, w\), got \(3,\)"),
    "kernel zero": (lambda: Blur(torch.zeros(3, 3)), "kernel must be finite and not all zero"),
    "sigma": (lambda: Blur.gaussian(0.0), "sigma must be positive and finite, got 0.0"),
    "length": (lambda: Blur.line(0.5), "length must be at least one pixel, got 0.5"),
    "angle": (lambda: Blur.line(3, math.nan), "angle must be finite, got nan"),
    "size": (lambda: Blur.motion(10), "size must be odd and at least 3, got 10"),
    "intensity": (lambda: Blur.motion(11, 2.0), r"intensity must be in \[0, 1\], got 2.0"),
    "factor": (lambda: Downsample.area(0), "factor must be a whole number, at least 1, got 0"),
    "factor type": (lambda: Downsample.bicubic(1.5), "factor must be a whole number, at least 1, got 1.5"),
    "divisible domain": (lambda: Downsample.area(4, shape=(3, 8, 10)), "multiples of 4, got 8 x 10; crop or pad"),
    "divisible image": (lambda: Downsample.bicubic(2)(torch.zeros(1, 3, 4, 5)), "multiples of 2, got 4 x 5; crop or pad"),
    "mask rank": (lambda: Inpaint(torch.ones(4, 4)), r"mask must have shape \(C, H, W\), got \(4, 4\)"),
    "mask values": (lambda: Inpaint(torch.full((1, 2, 2), 0.5)), r"0 \(missing\) and 1 \(seen\) only, got values in 0.5..0.5"),
    "mask empty": (lambda: Sample(torch.zeros(1, 2, 2)), "at least one pixel to be seen"),
    "mask size": (lambda: Inpaint(torch.ones(1, 4, 4))(torch.zeros(1, 3, 5, 4)), r"mask \(1, 4, 4\) fits, got \(3, 5, 4\)"),
    "missing": (lambda: Inpaint.random((1, 4, 4), 1.0), r"missing must be a share of the pixels in \[0, 1\), got 1.0"),
    "box": (lambda: Inpaint.box((1, 4, 4), (2, 2, 3, 1)), r"within 4 x 4 pixels, got \(2, 2, 3, 1\)"),
    "weights": (lambda: Grayscale((0.0, 0.0)), r"weights must not all be zero, got \(0.0, 0.0\)"),
    "channels": (lambda: Grayscale()(torch.zeros(1, 4, 2, 2)), r"x must have 3 channels, got shape \(1, 4, 2, 2\)"),
    "brightness": (lambda: Grayscale().adjoint(torch.zeros(1, 3, 2, 2)), "y must have one channel"),
    "matrix": (lambda: Separable(torch.ones(3), torch.eye(3)), r"rows must be a real matrix, got shape \(3,\)"),
    "pixels": (lambda: Separable(torch.eye(3), torch.eye(2))(torch.zeros(1, 1, 3, 3)), r"maps images of 3 x 2 pixels"),
    "square": (lambda: ddrm.bicubic(2, (3, 8, 6)), r"shape must be \(C, size, size\).*got \(3, 8, 6\)"),
    "scale": (lambda: resize(torch.zeros(1, 1, 2, 2), 0), "scale must be positive and finite, got 0"),
    "batch": (lambda: Blur.gaussian(1.0)(torch.zeros(3, 8, 8)), r"x must be a batch, \(B, C, H, W\), got shape \(3, 8, 8\)"),
    "integers": (lambda: Identity()(torch.zeros(1, 1, 2, 2, dtype=torch.uint8)), "floating point or complex, got torch.uint8"),
    "rho": (lambda: Identity().prox(torch.zeros(1, 1), torch.zeros(1, 1), 0.0), "rho must be positive, got 0.0"),
    "norm": (lambda: Blur(crooked(2, 3)).norm(), r"takes images of any shape; norm needs shape=\(C, H, W\)"),
    "svd": (lambda: Identity().svd(), r"svd needs shape=\(C, H, W\)"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
