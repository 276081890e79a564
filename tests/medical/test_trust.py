"""Chi-square, the split by chunks and factors of subjects, against dense matrices and closed forms."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from inverse.calibration import FLOOR, coverage
from inverse.operators import Blur, Gaussian
from inverse.operators.base import LinearOperator, Operator
from inverse.operators.noise import Noise
from inverse.reconstruction import PRIOR_STD, Reconstruction
from medical.coils import simulated_maps
from medical.operators import RealImages, RotateRadon, Sense
from medical.operators.per_slice import SliceOperators
from medical.transmission import LogPoisson
from medical.trust import calibrate, chi_square, magnitudes, split_by_chunks, voxel_scores
from medical.trust.subjects import factor_of_subject

DEPTH, SIDE, COILS = 5, 8, 3


@dataclass(frozen=True)
class Ramp(Noise):
    """Noise that grows from number to number."""

    low: float
    high: float

    def sample(self, clean, generator=None):
        return clean + self.std(clean) * torch.randn(clean.shape, dtype=clean.dtype, generator=generator)

    def std(self, y):
        return torch.linspace(self.low, self.high, y.shape[-1], dtype=y.real.dtype).expand(y.shape)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mask(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.5


def sense(noise=None, seed=0, **options):
    shape = (DEPTH, SIDE, SIDE) if options else (SIDE, SIDE)
    return Sense(simulated_maps(shape, COILS)[0].to(torch.complex128), mask(*shape, seed=seed), noise=noise, **options)


def dense(A: LinearOperator, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The matrix of A for one image like x (1, ...), real rows where x is real."""
    columns = []
    for k in range(x.numel()):
        unit = torch.zeros_like(x).flatten()
        unit[k] = 1
        columns.append(A(unit.view_as(x)).flatten())
    M = torch.stack(columns, 1)
    return torch.cat([M.real, M.imag]) if M.is_complex() and not x.is_complex() else M


def result(A: Operator, x: torch.Tensor, y: torch.Tensor, draws: int = 0) -> Reconstruction:
    samples = torch.stack([x] * draws) if draws else x.new_zeros(0, *x.shape)
    return Reconstruction(estimate=x, samples=samples, measurement=y, operator=A, network_calls=0, seconds=0.0)


CASES = {
    "radon": lambda noise: (RotateRadon.sparse(SIDE, 3, noise=noise), random(DEPTH, 1, SIDE, SIDE)),
    "sense": lambda noise: (sense(noise), random(DEPTH, 1, SIDE, SIDE, dtype=torch.complex128)),
    "real images": lambda noise: (RealImages(sense(noise)), random(DEPTH, 1, SIDE, SIDE)),
    "maps of each slice": lambda noise: (
        SliceOperators([sense(noise, seed=n) for n in range(DEPTH)]),
        random(DEPTH, 1, SIDE, SIDE, dtype=torch.complex128),
    ),
    "volume": lambda noise: (sense(noise, dims=3), random(1, 1, DEPTH, SIDE, SIDE, dtype=torch.complex128)),
    "real volume": lambda noise: (RealImages(sense(noise, dims=3)), random(1, 1, DEPTH, SIDE, SIDE)),
}


@pytest.mark.parametrize("chunk", [1, 2, 7])
@pytest.mark.parametrize("name", CASES)
def test_split_is_that_of_the_whole_volume(name, chunk):
    A, x = CASES[name](Gaussian(0.1))
    out = result(A, x, A.measure(x))
    measured, filled = split_by_chunks(out, chunk=chunk)
    torch.testing.assert_close(measured, out.split()[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(measured + filled, x)
    assert measured.dtype == x.dtype
    assert 0.01 < float(measured.norm() / x.norm()) < 0.999


@pytest.mark.parametrize("noise", [Gaussian(0.5), Ramp(0.3, 3.0)], ids=["alike", "unlike"])
@pytest.mark.parametrize("name", ["radon", "real images"])
def test_degrees_of_freedom(name, noise):
    """The quadratic form of the probe is that of the dense matrix, and its mean over probes the trace."""
    A, x = CASES[name](noise)
    y = A.measure(x)
    y = y if name == "radon" else y * A.A.mask
    M = dense(A, x[:1], y)
    weights = noise.std(y).expand(y.shape)[0].reciprocal().flatten()
    weights = torch.cat([weights, weights])[: len(M)]
    normal = M.mT * weights**2 @ M
    H = torch.linalg.solve(normal + PRIOR_STD**-2 * torch.eye(len(normal), dtype=normal.dtype), normal)
    dof = DEPTH * float(H.trace())
    found = [chi_square(result(A, x, y), seed=seed) for seed in range(12)]
    assert found[0].count == (y.numel() if name == "radon" else 2 * COILS * DEPTH * int(A.A.mask.sum()))
    forms = []
    for seed, f in enumerate(found):
        probe = 2.0 * torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(seed)).double().flatten(1) - 1
        forms.append(float(torch.einsum("ni,ij,nj->", probe, H, probe)))
        assert f.count - f.expected == pytest.approx(forms[-1], rel=1e-4)
    deviation = (2 * DEPTH * float(H.square().sum() - H.diagonal().square().sum()) / len(found)) ** 0.5
    assert abs(sum(forms) / len(forms) - dof) < 4 * deviation < dof


@pytest.mark.parametrize("name", CASES)
def test_value_and_count_of_the_truth(name):
    """Of the truth, chi-square is the squared norm of the noise over its variance; unmeasured points are not counted."""
    A, x = CASES[name](Gaussian(0.05))
    y = A.measure(x, seed=3)
    seen = A(torch.ones_like(x)) != 0
    if y.is_complex():
        noise = (y - A(x)).abs().square() / 0.05**2
        pieces = [A.A] if isinstance(A, RealImages) else A.members if isinstance(A, SliceOperators) else [A]
        seen = torch.cat([piece.mask.expand(piece.mask.shape[0], *y.shape[1:]) for piece in pieces])
        seen = seen.expand(y.shape)
        y = y * seen
    else:
        noise, seen = (y - A(x)).square() / 0.05**2, torch.ones_like(seen)
    found = chi_square(result(A, x, y, draws=1), chunk=2)
    assert found.value == pytest.approx(float(noise[seen].sum()), rel=1e-9)
    assert found.count == int(seen.sum()) * (2 if y.is_complex() else 1)
    assert found.expected == pytest.approx(found.count)
    assert abs(found.z) < 4
    assert found.reduced == pytest.approx(1, abs=0.2)


def test_what_noise_alone_leaves():
    """The linear fit of images as Gaussians leaves ``count - dof``, the mean of S draws ``count - dof (1 - 1 / S)``."""
    sigma, draws = 0.5, 3
    A = RotateRadon.sparse(SIDE, 6, noise=Gaussian(sigma))
    slices = 300
    x = PRIOR_STD * random(slices, 1, SIDE, SIDE)
    y = A.measure(x, seed=1)
    rho = (sigma / PRIOR_STD) ** 2
    fit = A.prox(torch.zeros_like(x), y, rho)
    M = dense(A, x[:1], y)
    root = torch.linalg.cholesky(sigma**2 * torch.linalg.inv(M.mT @ M + rho * torch.eye(SIDE**2, dtype=M.dtype)))
    spread = (random(draws, slices, SIDE**2, seed=2) @ root.mT).view(draws, *x.shape)
    single, mean = (
        chi_square(replace(result(A, fit + s.mean(0), y), samples=fit + s), chunk=100) for s in (spread[:1], spread)
    )
    alone = chi_square(result(A, fit, y), chunk=100)
    assert alone.expected < 0.8 * alone.count
    for found in (alone, single, mean):
        assert found.reduced == pytest.approx(1, abs=0.03)
        assert abs(found.z) < 3
    assert alone.expected < mean.expected < single.expected == single.count


def test_a_wrong_fit_is_found():
    A, x = CASES["radon"](Gaussian(0.05))
    y = A.measure(x)
    assert chi_square(result(A, 1.1 * x, y)).z > 20


def test_photon_noise_is_weighted():
    A = RotateRadon.sparse(SIDE, 5, noise=LogPoisson(1e3))
    x = random(DEPTH, 1, SIDE, SIDE).abs() / SIDE
    found = chi_square(result(A, x, A.measure(x), draws=1))
    assert found.reduced == pytest.approx(1, abs=0.15)


def test_no_figure_without_noise():
    A, x = CASES["radon"](None)
    assert chi_square(result(A, x, A(x))) is None


def test_bad_input():
    A, x = CASES["radon"](Gaussian(0.1))
    out = result(A, x, A(x))
    with pytest.raises(ValueError, match=r"chunk must be at least 1 slice, got 0"):
        split_by_chunks(out, chunk=0)
    crooked = Operator(noise=Gaussian(0.1))
    for f in (chi_square, split_by_chunks):
        with pytest.raises(TypeError, match="linear operator"):
            f(replace(out, operator=crooked))


def drawn(x, spread, count=4, seed=5):
    """A result for the truth x, estimate and samples all off by ``spread``."""
    off = spread * random(count + 1, *x.shape, seed=seed).to(x)
    return replace(result(Blur.gaussian(1.0), x + off[0], x), samples=x + off[0] + off[1:])


def test_air_does_not_count():
    x = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    x[:, :, :2] = 0.5
    out = drawn(x, 1e-3)
    assert voxel_scores(out, x).shape == (16,)
    assert voxel_scores(out, x, air=None).shape == (32,)
    expected = ((x - out.estimate).abs() / (out.std + FLOOR))[:, :, :2].flatten()
    torch.testing.assert_close(voxel_scores(out, x), expected)
    with pytest.raises(ValueError, match=r"at least 0\.9"):
        voxel_scores(out, x, air=0.9)


def test_magnitudes_of_complex_volumes():
    x = random(2, 1, 4, 4, dtype=torch.complex128)
    out = drawn(x, 0.01)
    seen = magnitudes(out)
    assert not seen.estimate.is_complex()
    assert torch.equal(seen.samples, out.samples.abs())
    expected = (x.abs() - out.estimate.abs()).abs() / (out.samples.abs().std(0) + FLOOR)
    torch.testing.assert_close(voxel_scores(out, x, air=None), expected.flatten())
    torch.testing.assert_close(voxel_scores(out, x.abs(), air=None), expected.flatten())
    assert magnitudes(seen) is seen


@pytest.mark.parametrize("count", [1, 3, 40])
def test_factor_of_a_subject_is_the_quantile(count):
    blocks = [random(997, seed=k).abs() for k in range(count)]
    for level in (0.68, 0.95):
        factor = factor_of_subject(blocks, level)
        held = coverage(torch.cat(blocks), factor)
        assert level <= held < level + 2 / (count * 997)


def test_blocks_weigh_alike():
    few, many = torch.full((10,), 3.0), torch.full((1000,), 1.0)
    assert factor_of_subject([few, many], 0.4) == 1.0
    assert factor_of_subject([few, many], 0.6) == 3.0


def test_a_further_subject_is_held_as_often_as_promised():
    """K subjects whose errors differ in scale: the next one has 95 % with the probability K / (K + 1), and not much more."""
    generator = torch.Generator().manual_seed(0)
    K, trials, kept = 3, 400, 0
    for _trial in range(trials):
        scale = torch.rand(K + 1, generator=generator).add(0.5)
        subjects = [s * torch.randn(2, 200, generator=generator).abs() for s in scale]
        known = calibrate(
            {str(k): list(blocks) for k, blocks in enumerate(subjects[:-1])}, task="t", sampler="s", samples=4, levels=(0.95,)
        )
        kept += coverage(subjects[-1], known.factor(0.95)) >= 0.95
    assert kept / trials == pytest.approx(K / (K + 1), abs=0.065)


def test_calibration_of_subjects():
    subjects = {"a": [torch.linspace(0, 1, 101)], "b": [torch.linspace(0, 2, 101), torch.linspace(0, 2, 101)]}
    known = calibrate(subjects, task="t", sampler="s", samples=4, prior="p")
    assert (known.images, known.levels) == (2, (0.68, 0.95))
    assert known.factors == pytest.approx((1.36, 1.9), abs=0.021)
    x = torch.full((2, 1, 4, 4), 0.5, dtype=torch.float64)
    low, high = known.interval(drawn(x, 0.1), 0.95)
    torch.testing.assert_close(high - low, 2 * known.factor(0.95) * (drawn(x, 0.1).std + FLOOR))


@pytest.mark.parametrize("subjects", [{}, {"a": []}, {"a": [torch.zeros(0)]}])
def test_calibration_needs_scores(subjects):
    with pytest.raises(ValueError, match=r"subjects must .* got none"):
        calibrate(subjects, task="t", sampler="s", samples=4)
