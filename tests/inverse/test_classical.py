"""Total variation and bicubic interpolation: closed forms, optimality, and scikit-image and Pillow as peers."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.restoration import denoise_tv_chambolle

from inverse.classical import bicubic_upscale, total_variation, tune_tv_weight, tv_reconstruct
from inverse.metrics import psnr
from inverse.operators import Blur, Downsample, Gaussian, Identity, Inpaint, LinearOperator
from inverse.operators.base import Operator, Shape


class Mean(LinearOperator):
    """The mean of the image alone, one number: an operator that leaves nearly everything open."""

    def _apply_operator(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).mean(1, keepdim=True)

    def _adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return (y / torch.Size(self.domain).numel()).view(-1, 1, 1, 1).expand(-1, *self.domain)

    def output_shape(self, shape: Shape) -> Shape:
        return (1,)


def blocks(size: int = 24) -> torch.Tensor:
    """A colour image of flat regions, (1, 3, size, size)."""
    x = torch.full((1, 3, size, size), 0.2)
    x[:, 0, :, size // 2 :] = 0.8
    x[:, 1, size // 3 : 2 * size // 3, size // 4 : size // 2] = 0.7
    x[:, 2, size // 2 :] = 0.5
    return x


def objective(A: LinearOperator, x: torch.Tensor, y: torch.Tensor, weight: float) -> float:
    return float((A(x) - y).double().square().sum() / 2 + weight * total_variation(x.double()).sum())


def test_total_variation_counts_the_edge():
    x = torch.zeros(2, 1, 6, 8)
    x[0, :, :, 3:] = 0.5  # an edge of six pixels
    x[1, :, 2:, :] = 0.25  # and one of eight
    assert total_variation(x).tolist() == pytest.approx([3.0, 2.0])


def test_coupled_channels_share_an_edge():
    x = torch.zeros(1, 3, 6, 8)
    x[..., 3:] = 0.5
    assert total_variation(x).item() == pytest.approx(6 * 0.5 * 3**0.5)


def test_denoising_a_step_moves_each_side_by_its_edge_over_its_area():
    # each column of six pixels wide w moves towards the other by weight * 6 / (6 w)
    weight, y = 0.3, torch.zeros(1, 1, 6, 8)
    y[..., 3:] = 1.0
    x = tv_reconstruct(Identity(), y, weight, iterations=3000, tolerance=0)
    torch.testing.assert_close(x[..., :3], torch.full((1, 1, 6, 3), weight / 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(x[..., 3:], torch.full((1, 1, 6, 5), 1 - weight / 5), atol=1e-4, rtol=0)


def test_denoising_a_grey_image_equals_scikit_image():
    y = blocks()[:, :1] + 0.1 * torch.randn(1, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    ours = tv_reconstruct(Identity(), y, 0.1, iterations=2000, tolerance=0)
    theirs = denoise_tv_chambolle(y[0, 0].double().numpy(), weight=0.1, eps=0, max_num_iter=5000)
    np.testing.assert_allclose(ours[0, 0].numpy(), theirs, atol=2e-3)  # the accuracy of theirs: it converges as 1 / n
    theirs = torch.from_numpy(theirs)[None, None]
    assert objective(Identity(), ours, y, 0.1) <= objective(Identity(), theirs, y, 0.1) * (1 + 1e-6)


OPERATORS = {
    "blur": lambda: Blur.gaussian(1.5, noise=Gaussian(0.02)),
    "area": lambda: Downsample.area(2, noise=Gaussian(0.02)),
    "inpaint": lambda: Inpaint.random((3, 24, 24), 0.6, seed=1, noise=Gaussian(0.02)),
}


@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS.keys())
def test_the_answer_is_the_minimum(make):
    A, weight = make(), 3e-3
    y = A.measure(blocks(), seed=0)
    x = tv_reconstruct(A, y, weight)
    best = tv_reconstruct(A, y, weight, iterations=5000, tolerance=0)
    lowest = objective(A, best, y, weight)
    assert objective(A, x, y, weight) <= lowest * (1 + 2e-3)  # what the default tolerance leaves
    assert lowest < objective(A, blocks(), y, weight)
    generator = torch.Generator().manual_seed(2)
    for size in (1e-2, 1e-3):  # no direction goes down
        change = size * torch.randn(best.shape, generator=generator)
        assert objective(A, best + change, y, weight) > lowest


def test_more_iterations_are_never_much_worse():
    A, weight = OPERATORS["blur"](), 3e-3
    y = A.measure(blocks(), seed=0)
    course = [objective(A, tv_reconstruct(A, y, weight, iterations=n, tolerance=0), y, weight) for n in (5, 20, 80, 320, 1280)]
    assert all(later < earlier * (1 + 1e-4) for earlier, later in pairwise(course))
    assert course[-1] == pytest.approx(course[-2], rel=1e-4)


def test_without_weight_the_measurement_is_kept_exactly():
    A, x = Inpaint.random((3, 24, 24), 0.6, seed=1), blocks()
    y = A.measure(x)
    filled = tv_reconstruct(A, y, 0.0, iterations=2000)
    torch.testing.assert_close(A(filled), y, atol=1e-6, rtol=0)
    assert float(total_variation(filled)) <= float(total_variation(x)) * (1 + 1e-3)
    assert float(psnr(filled, x)) > 25  # flat regions are what total variation is for; the hole-ridden input has 8 dB
    limit = tv_reconstruct(A, y, 1e-5, iterations=2000)
    assert float((limit - filled).abs().max()) < 0.01


def test_an_operator_that_fixes_only_the_mean_gives_a_constant():
    x = tv_reconstruct(
        Mean((1, 6, 8)), torch.full((1, 1), 0.7), 0.0, start=torch.rand(1, 1, 6, 8), iterations=3000, tolerance=0
    )
    torch.testing.assert_close(x, torch.full((1, 1, 6, 8), 0.7), atol=1e-3, rtol=0)


def test_a_batch_equals_its_members():
    A = OPERATORS["blur"]()
    y = A.measure(torch.cat([blocks(), 1 - blocks()]), seed=0)
    both = tv_reconstruct(A, y, 3e-3, iterations=50, tolerance=0)
    one = tv_reconstruct(A, y[1:], 3e-3, iterations=50, tolerance=0)
    torch.testing.assert_close(both[1:], one, atol=1e-5, rtol=0)


def test_tuning_finds_the_best_weight():
    A, images = Identity(noise=Gaussian(0.1)), [blocks(), 1 - blocks()]
    tuned = tune_tv_weight(A, images, bounds=(1e-3, 1.0), evaluations=8)

    def quality(weight: float) -> float:
        restored = [tv_reconstruct(A, A.measure(x, seed=i), weight).clamp(0, 1) for i, x in enumerate(images)]
        return sum(float(psnr(r, x)) for r, x in zip(restored, images, strict=True)) / 2

    best = quality(tuned)
    grid = [quality(w) for w in (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)]
    assert best > max(grid) - 0.1
    assert best > quality(0.001) + 5


def test_bicubic_is_aligned():
    # cubic convolution reproduces quadratics away from the edges, and pixel centres sit at (i + 1/2) / 4 - 1/2
    n = torch.arange(12, dtype=torch.float64)
    wanted = (torch.arange(48, dtype=torch.float64) + 0.5) / 4 - 0.5
    up = bicubic_upscale((n**2).expand(1, 1, 12, 12), 4)
    torch.testing.assert_close(up[0, 0, 24, 12:-12], wanted[12:-12] ** 2)


def test_bicubic_equals_pillow_inside():
    y = torch.rand(1, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    theirs = Image.fromarray(y[0, 0].numpy()).resize((40, 48), Image.Resampling.BICUBIC)
    torch.testing.assert_close(
        bicubic_upscale(y, 4)[0, 0, 8:-8, 8:-8], torch.from_numpy(np.array(theirs))[8:-8, 8:-8], atol=1e-5, rtol=0
    )


def test_bad_input():
    y = blocks()
    with pytest.raises(ValueError, match="weight must be finite and not negative, got -1"):
        tv_reconstruct(Identity(), y, -1)
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        tv_reconstruct(Identity(), y, 0.1, iterations=0)
    with pytest.raises(TypeError, match="needs a linear operator, got Operator"):
        tv_reconstruct(Operator(), y, 0.1)
    with pytest.raises(ValueError, match=r"y must have shape \(B, 3, 24, 24\), got \(1, 3, 24, 20\)"):
        tv_reconstruct(OPERATORS["inpaint"](), y[..., :20], 0.1)
    with pytest.raises(ValueError, match=r"bounds must be 0 < low < high, got \(0.1, 0.01\)"):
        tune_tv_weight(Identity(), [y], bounds=(0.1, 0.01))
    with pytest.raises(ValueError, match="got 0 and 10"):
        tune_tv_weight(Identity(), [])
    with pytest.raises(ValueError, match=r"factor must be a whole number, at least 1, got 1\.5"):
        bicubic_upscale(y, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"y must be a batch of images \(B, C, h, w\), got shape \(3, 24, 24\)"):
        bicubic_upscale(y[0], 2)
