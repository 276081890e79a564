"""Guidance against the closed form of a Gaussian prior, and what has to hold for any network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from prior.randomness import MemberNoise
from tests.timeseries.gaussian import T, gaussian_model, past
from timeseries.backbone import Backbone
from timeseries.diffusion import TSDiff, linear_schedule
from timeseries.guidance import DDIMGuidance, DDPMGuidance, Guidance, QuantileEnergy, SquareEnergy, kept_steps
from timeseries.paths import PathWindow, quantile_levels
from timeseries.windows import WindowAssembly

ENERGIES = [SquareEnergy(), QuantileEnergy()]
CHAINS = [DDPMGuidance, DDIMGuidance]
GUIDANCES = [
    DDPMGuidance(scale=2.0),
    DDPMGuidance(scale=2.0, energy=SquareEnergy(), score_at="current"),
    DDIMGuidance(scale=0.5, skip=3, eta=0.5),
    DDIMGuidance(scale=0.1, energy=SquareEnergy(), skip=2, spacing="quadratic"),
]


class Stored:
    """Draws of the shape of what they are asked for, kept; replayed, mirrored or silent."""

    def __init__(self, seed: int, count: int, sign: float = 1.0, flip: bool = False) -> None:
        self.source, self.sign, self.flip, self.drawn = MemberNoise(seed, count), sign, flip, []

    def __call__(self, like: Tensor) -> Tensor:
        z = self.sign * self.source(like)
        self.drawn.append(z.flip(0) if self.flip else z)
        return self.drawn[-1]


# --- the closed form: with the square energy every step is affine in x and z


def affine_walk(model: TSDiff, paths: PathWindow, guidance: Guidance, draws: list[Tensor]) -> Tensor:
    """The chain by matrices on flattened windows, from formulas of its own: posterior means, not noise estimates."""
    net, schedule = model.backbone, model.schedule
    y, m = paths.window.x.flatten(1), paths.window.observed.flatten(1)
    z = [d.flatten(1) for d in draws]

    def estimate(x, t):
        return x @ net.G[t].mT + net.g[t]

    def score(x, t):
        return -2 * (m * (estimate(x, t) - y)) @ net.G[t]

    x, abar, s = z[0], [*schedule.abar.tolist(), 1.0], guidance.scale
    if isinstance(guidance, DDPMGuidance):
        c1, c2 = schedule.posterior_mean_coefficients
        for k, t in enumerate(reversed(range(T))):
            v = schedule.posterior_variance[t]
            arrived = c1[t] * estimate(x, t) + c2[t] * x + (v.sqrt() * z[1 + k] if t else 0)
            x = arrived + s * v * score(x if guidance.score_at == "current" else arrived, t)
        return x
    kept = kept_steps(T, guidance.skip, guidance.spacing)
    for k, i in enumerate(reversed(range(len(kept)))):
        t, (a, b) = kept[i], (abar[kept[i]], abar[kept[i - 1]] if i else 1.0)
        pull = s * (1 - a) / a**0.5 * score(x, t)  # of the estimate, by the guided noise
        y0 = estimate(x, t) + pull
        eps = (x - a**0.5 * y0) / (1 - a) ** 0.5
        variance = guidance.eta**2 * (1 - a / b) * (1 - b) / (1 - a)
        x = b**0.5 * y0 + (1 - b - variance) ** 0.5 * eps + variance**0.5 * z[1 + k]
    return x


@pytest.mark.parametrize(
    "guidance",
    [
        DDPMGuidance(energy=SquareEnergy(), scale=3.0),
        DDPMGuidance(energy=SquareEnergy(), scale=3.0, score_at="current"),
        DDIMGuidance(energy=SquareEnergy(), scale=0.2),
        DDIMGuidance(energy=SquareEnergy(), scale=0.2, skip=3, eta=0.5),
        DDIMGuidance(energy=SquareEnergy(), scale=0.2, skip=2, spacing="quadratic", eta=1.0),
    ],
)
def test_each_path_is_that_of_the_affine_chain(guidance):
    model = gaussian_model()
    window = model.window(past(model).index_fill(1, torch.tensor([4]), torch.nan))
    paths = PathWindow.of(window, 3)
    noise = Stored(0, len(paths))
    got = guidance.walk(model, paths, noise)
    wanted = affine_walk(model, paths, guidance, noise.drawn)
    torch.testing.assert_close(got.flatten(1), wanted, rtol=1e-11, atol=1e-11)


def test_mean_and_covariance_of_the_guided_chain():
    model, guidance, count = gaussian_model(), DDPMGuidance(energy=SquareEnergy(), scale=3.0), 8_000
    paths = PathWindow.of(model.window(past(model, 1)), count)
    generator = torch.Generator().manual_seed(0)
    got = guidance.walk(model, paths, lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype)).flatten(1)

    net, schedule, size = model.backbone, model.schedule, got.shape[1]
    eye, y, m = torch.eye(size, dtype=torch.float64), paths.window.x[0].flatten(), paths.window.observed[0].flatten()
    mean, covariance = torch.zeros(size, dtype=torch.float64), eye
    c1, c2 = schedule.posterior_mean_coefficients
    for t in reversed(range(T)):
        v, G, g = schedule.posterior_variance[t], net.G[t], net.g[t]
        A = c1[t] * G + c2[t] * eye
        pull = eye - 2 * guidance.scale * v * G.mT @ (m[:, None] * G)
        mean = pull @ (A @ mean + c1[t] * g) - 2 * guidance.scale * v * G.mT @ (m * (g - y))
        covariance = pull @ (A @ covariance @ A.mT + v * eye) @ pull.mT
    deviation = covariance.diagonal().sqrt()
    assert ((got.mean(0) - mean) / deviation).abs().max() < 4.5 / count**0.5
    error = (got.mT.cov() - covariance) / torch.outer(deviation, deviation)
    assert error.abs().max() < 5 * (2 / count) ** 0.5


# --- invariants


@pytest.mark.parametrize("energy", ENERGIES)
def test_without_scale_the_chain_is_unconditional(energy):
    model = gaussian_model()
    paths = PathWindow.of(model.window(past(model)), 3)
    wanted = model.sample(6, noise=MemberNoise(5, 6))
    for guidance in (
        DDPMGuidance(energy=energy, scale=0),
        DDPMGuidance(energy=energy, scale=0, score_at="current"),
        DDIMGuidance(energy=energy, scale=0, eta=1.0),  # ancestral steps, written otherwise
    ):
        got = guidance.walk(model, paths, MemberNoise(5, 6))
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_nothing_observed_is_unconditional(guidance):
    model = gaussian_model()
    window = model.window(torch.full_like(past(model), torch.nan))
    paths = PathWindow.of(window, 2)
    free = replace(guidance, scale=0.0)
    assert torch.equal(guidance.walk(model, paths, MemberNoise(5, 4)), free.walk(model, paths, MemberNoise(5, 4)))


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_forecasts_scale_with_the_series(guidance):
    model = gaussian_model()
    got, scaled = (guidance.sample(model, model.window(c * past(model)), 4, seed=1) for c in (1.0, 250.0))
    torch.testing.assert_close(scaled, 250 * got, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("chain", CHAINS)
def test_a_mirrored_series_has_the_mirrored_forecast(chain):
    model, guidance = gaussian_model(centred=True), chain(scale=0.7)
    window, mirrored = (model.window(sign * past(model, 1)) for sign in (1, -1))
    got = guidance.walk(model, PathWindow.of(window, 5), Stored(0, 5))
    other = guidance.walk(model, PathWindow.of(mirrored, 5), Stored(0, 5, sign=-1, flip=True))
    torch.testing.assert_close(other, -got.flip(0), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_neither_pieces_nor_neighbours_matter(guidance):
    model = gaussian_model()
    values = past(model, 3)
    whole = guidance.sample(model, model.window(values), 4, seed=7)
    assert whole.shape == (3, 4, model.assembly.length)
    for batch in (1, 5, 12):
        pieces = guidance.sample(model, model.window(values), 4, seed=7, batch=batch)
        torch.testing.assert_close(pieces, whole, rtol=1e-12, atol=1e-12)
    alone = guidance.sample(model, model.window(values[2:]), 4, seed=7 + 2 * 4)
    torch.testing.assert_close(alone, whole[2:], rtol=1e-12, atol=1e-12)
    assert (guidance.sample(model, model.window(values), 4, seed=8) - whole).abs().min() > 0


@pytest.mark.parametrize("observed", ["forecast", "missing history", "imputation", "back-casting"])
@pytest.mark.parametrize("energy", ENERGIES)
def test_any_mask_pulls_towards_what_it_shows(observed, energy):
    model = gaussian_model()
    values = past(model, 2, seed=4)
    window = model.window(values, future=values[:, :3])
    mask = torch.zeros_like(window.observed)
    shown = {"forecast": slice(0, 5), "missing history": slice(0, 3), "imputation": slice(0, 8, 2), "back-casting": slice(4, 8)}
    mask[:, shown[observed], 0] = 1
    window = replace(window, x=window.x * mask, observed=mask)
    target, known = window.x[:, None, :, 0] * window.scale[:, None], mask[:, None, :, 0]
    free, guided = (
        (known * (DDPMGuidance(energy=energy, scale=s).sample(model, window, 40) - target).abs()).sum() for s in (0.0, 6.0)
    )
    assert guided < 0.75 * free


# --- energies and scores


def test_square_energy_is_a_plain_sum():
    y, target, mask = (torch.arange(6.0).view(1, 3, 2) + k for k in (0, 2, 0))
    assert SquareEnergy()(y, target, (mask > 3).float(), torch.tensor(0.5)) == 2 * 2**2


def test_quantile_energy_and_its_slope():
    y = torch.tensor([[[1.0]], [[5.0]]], requires_grad=True)
    target, levels = torch.full((2, 1, 1), 3.0), quantile_levels(2).float().view(2, 1, 1)
    energy = QuantileEnergy()(y, target, torch.ones(2, 1, 1), levels)
    assert energy.item() == pytest.approx(2 * (1 / 3) + 2 * (1 - 2 / 3))
    energy.backward()
    assert y.grad.flatten().tolist() == pytest.approx([-1 / 3, 1 - 2 / 3])


def test_the_quantile_energy_is_mirrored_with_the_order_of_the_paths():
    y, target = torch.randn(2, 5, 4, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels, mask = quantile_levels(5).view(5, 1, 1), torch.ones(5, 4, 1)
    energy = QuantileEnergy()
    assert energy(y, target, mask, levels).item() == pytest.approx(
        energy(-y.flip(0), -target.flip(0), mask, levels).item(), rel=1e-14
    )


def test_levels_follow_the_path_within_its_series():
    model = gaussian_model()
    pieces = list(PathWindow.pieces(model.window(past(model)), 3, 4))
    assert [len(piece) for piece in pieces] == [4, 2]
    assert [piece.first for piece in pieces] == [0, 4]
    assert torch.cat([piece.levels for piece in pieces]).flatten().tolist() == [0.25, 0.5, 0.75] * 2
    whole = model.window(past(model)).repeat(3)
    assert torch.equal(torch.cat([piece.window.x for piece in pieces]), whole.x)


def network(*, lags: tuple[int, ...] = (2,)) -> TSDiff:
    """TSDiff in float64 around a small network of two blocks, and gradients of its parameters wanted."""
    torch.manual_seed(0)
    assembly = WindowAssembly(context_length=9, prediction_length=5, lags=lags)
    backbone = Backbone(assembly.channels, 8, 2, 16, state=8)
    return TSDiff(backbone, assembly, schedule=linear_schedule(T)).double().eval()


@pytest.mark.parametrize("energy", ENERGIES)
def test_score_is_the_slope_of_the_energy(energy):
    model, guidance, t, h = network(), DDPMGuidance(energy=energy), 4, 1e-5
    paths = PathWindow.of(model.window(past(model)), 3)
    x, direction = (MemberNoise(seed, 6)(paths.window.x) for seed in (1, 20))
    score, eps = guidance.score(model, x, t, paths)
    with torch.no_grad():
        torch.testing.assert_close(eps, model.eps(x, t), rtol=1e-12, atol=1e-12)
        ahead, behind = (
            energy(model.estimate(y, t, model.eps(y, t)), paths.window.x, paths.window.observed, paths.levels)
            for y in (x + h * direction, x - h * direction)
        )
    assert -(score * direction).sum().item() == pytest.approx(((ahead - behind) / (2 * h)).item(), rel=1e-6)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_network_that_was_used_without_gradients_before(context):
    model, guidance = network(), DDPMGuidance(scale=2.0)
    wanted = guidance.sample(model, model.window(past(model)), 3)
    model = network()
    with context():
        window = model.window(past(model))
        model.eps(window.x, 3)  # keeps its kernels
        got = guidance.sample(model, window, 3)
    torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)
    assert not got.requires_grad
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


# --- the network: how often it is asked, and what of it is touched


@pytest.mark.parametrize(
    ("guidance", "evaluations"),
    [
        (DDPMGuidance(), 2 * T - 1),
        (DDPMGuidance(score_at="current"), T),
        (DDIMGuidance(), T),
        (DDIMGuidance(skip=3), 4),
    ],
)
def test_evaluations(guidance, evaluations):
    model = gaussian_model()
    guidance.sample(model, model.window(past(model)), 2)
    assert len(model.backbone.calls) == evaluations
    assert not any(model.backbone.learning)
    assert model.backbone.gain.requires_grad
    assert model.backbone.gain.grad is None


@pytest.mark.parametrize("guidance", GUIDANCES)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_there_where_the_caller_has_none(guidance, context):
    model = gaussian_model()
    wanted = guidance.sample(model, model.window(past(model)), 3)
    with context():
        got = guidance.sample(model, model.window(past(model)), 3)
        assert not torch.is_grad_enabled()
    assert torch.equal(got, wanted)
    assert not got.requires_grad


def test_parameters_are_as_before_after_a_failure():
    model = gaussian_model()
    paths = PathWindow.of(model.window(past(model)), 2)
    with pytest.raises(RuntimeError):
        DDPMGuidance().score(model, torch.zeros(4, 3, 2, dtype=torch.float64), 5, paths)
    assert model.backbone.gain.requires_grad


@pytest.mark.parametrize(
    ("T", "skip", "spacing", "kept"),
    [
        (10, 1, "uniform", list(range(10))),
        (10, 3, "uniform", [0, 3, 6, 9]),
        (10, 2, "quadratic", [0, 2, 4, 8]),  # u^2 of 0, 1/4, ..., 1 times sqrt 8: 0, 0.5, 2, 4.5, 8
        (100, 10, "quadratic", [0, 1, 4, 10, 17, 27, 40, 54, 71, 90]),  # 90 (i / 9)^2
        (100, 100, "uniform", [0]),
        (100, 100, "quadratic", [0]),
        (10, 2, "early", [1, 5, 7, 9]),
        (100, 10, "early", [9, 28, 45, 59, 72, 82, 89, 95, 98, 99]),
    ],
)
def test_kept_steps(T, skip, spacing, kept):
    assert kept_steps(T, skip, spacing) == kept


# --- bad input


def test_too_strong_a_pull_is_reported():
    model = gaussian_model()
    with pytest.raises(ValueError, match=r"diverges for series \[0, 1\]; lower scale"):
        DDPMGuidance(energy=SquareEnergy(), scale=1e80).sample(model, model.window(past(model)), 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DDPMGuidance(scale=-1), "scale"),
        (lambda: DDIMGuidance(scale=float("nan")), "scale"),
        (lambda: DDPMGuidance(score_at="new"), "score_at"),
        (lambda: DDIMGuidance(eta=1.5), "eta"),
        (lambda: DDIMGuidance(skip=0), "skip"),
        (lambda: DDIMGuidance(spacing="cubic"), "spacing"),
        (lambda: kept_steps(10, 11), "skip"),
        (lambda: quantile_levels(0), "paths"),
        (lambda: next(PathWindow.pieces(gaussian_model().window(past(gaussian_model())), 2, 0)), "batch"),
        (lambda: DDIMGuidance(skip=11).sample(gaussian_model(), gaussian_model().window(past(gaussian_model())), 2), "1..10"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
