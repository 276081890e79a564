"""Refinement: closed forms of its gradients and dynamics, what the regulariser covers, and what has to hold for any network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prior.randomness import MemberNoise
from tests.timeseries.gaussian import T, gaussian_model, past
from timeseries.guidance import QuantileEnergy, SquareEnergy
from timeseries.langevin import Descent, Hamiltonian, Langevin, Underdamped
from timeseries.paths import PathWindow
from timeseries.refinement import ImplicitEnergy, Refiner, representative_step, seasonal_naive

SQUARE, QUANTILE = SquareEnergy(), QuantileEnergy()
DYNAMICS = [Descent(), Langevin(), Hamiltonian(), Underdamped(), Underdamped.critical()]
REFINERS = [
    Refiner(energy=ImplicitEnergy(tau=4, regulariser=regulariser), dynamics=dynamics, iterations=2)
    for dynamics, regulariser in zip(DYNAMICS, (SQUARE, QUANTILE, SQUARE, QUANTILE, QUANTILE), strict=True)
]


def base_forecast(series: int = 2, paths: int = 4, horizon: int = 3, seed: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 5 + torch.randn(series, paths, horizon, generator=generator, dtype=torch.float64)


def gap(values: Tensor) -> Tensor:
    """With the last but one value of the first series unknown."""
    values = values.clone()
    values[0, -2] = torch.nan
    return values


def start(model, base: Tensor, paths: int = 4) -> PathWindow:
    return next(Refiner().pieces(model.window(gap(past(model))), base, paths, 100))


# --- energy


@pytest.mark.parametrize("region", ["known", "released", "whole"])
@pytest.mark.parametrize("regulariser", [SQUARE, QUANTILE])
def test_gradient_in_closed_form(regulariser, region):
    model, tau, weight = gaussian_model(), 6, 0.7
    base = start(model, base_forecast())
    energy = ImplicitEnergy(regulariser=regulariser, weight=weight, tau=tau, region=region)
    y = base.window.x + torch.randn(base.window.x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    got = energy.gradient(model, y, base, MemberNoise(3, len(y)))

    eps = MemberNoise(3, len(y))(y).flatten(1)
    E, e, abar = model.backbone.E[tau], model.backbone.e[tau], model.schedule.abar[tau]
    residual = (abar.sqrt() * y.flatten(1) + (1 - abar).sqrt() * eps) @ E.mT + e - eps
    wanted = (2 * abar.sqrt() * residual @ E).view_as(y)
    off = y - base.window.x
    slope = 2 * off if regulariser is SQUARE else torch.where(off > 0, 1 - base.levels, -base.levels)
    torch.testing.assert_close(got, wanted + weight * energy.mask(base.window) * slope, rtol=1e-11, atol=1e-11)


def test_regions():
    model = gaussian_model()  # context 5, horizon 3, one lag of 2: the last lagged value is that of a future step
    window = start(model, base_forecast()).window
    known = torch.tensor([[1, 1, 1, 0, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0, 1, 0]]).mT  # series 0: series and lag
    assert torch.equal(window.observed[0], known.double())

    def mask(regulariser, region):
        return ImplicitEnergy(regulariser=regulariser, region=region).mask(window)[0]

    future = torch.zeros(8, 2)
    future[5:, 0] = 1
    lags = torch.tensor([0, 1]).expand(8, 2)
    assert torch.equal(mask(SQUARE, "known"), known.double())
    assert torch.equal(mask(SQUARE, "released"), torch.maximum(known, lags).double())
    assert torch.equal(mask(QUANTILE, "released"), torch.ones(8, 2).double())
    for regulariser, region in ((QUANTILE, "known"), (QUANTILE, "whole"), (SQUARE, "whole")):
        assert torch.equal(mask(regulariser, region), torch.maximum(known, future).double())


@pytest.mark.parametrize("regulariser", [SQUARE, QUANTILE])
def test_known_is_released_where_nothing_is_missing(regulariser):
    model = gaussian_model(lags=(3, 4))
    window = model.window(past(model))
    known, released = (ImplicitEnergy(regulariser=regulariser, region=region).mask(window) for region in ("known", "released"))
    assert torch.equal(known, released)


def test_random_times_are_uniform_and_each_path_its_own():
    model = gaussian_model()
    base = PathWindow.of(model.window(past(model)), 1000)
    energy = ImplicitEnergy(tau=None)
    energy.gradient(model, base.window.x, base, MemberNoise(0, len(base)))
    (times,) = model.backbone.calls
    counts = torch.bincount(times, minlength=T)
    assert counts.sum() == 2000
    assert len(counts) == T
    assert (counts - 200).abs().max() < 5 * (2000 * 0.1 * 0.9) ** 0.5
    piece = next(PathWindow.pieces(model.window(past(model)), 1000, 7))
    energy.gradient(model, piece.window.x, piece, MemberNoise(0, len(piece)))
    assert torch.equal(model.backbone.calls[-1], times[:7])


# --- dynamics on |y - 1|^2 k / 2, whose gradient is exact

K = 3.0


def slope(y: Tensor) -> Tensor:
    return K * (y - 1)


def silence(like: Tensor) -> Tensor:
    return torch.zeros_like(like)


def test_descent_contracts():
    y = torch.tensor([[[4.0]]], dtype=torch.float64)
    for _ in range(7):
        y = Descent(lr=0.2).step(slope, y, silence)
    assert y.item() == pytest.approx(1 + 3 * (1 - 0.2 * K) ** 7, rel=1e-12)


def test_langevin_has_the_variance_of_its_recursion():
    dynamics, generator = Langevin(eta=0.1, noise_scale=0.5), torch.Generator().manual_seed(0)
    y, variance = torch.zeros(20_000, 1, 1, dtype=torch.float64), 0.0
    for _ in range(30):
        y = dynamics.step(slope, y, lambda x: torch.randn(x.shape, generator=generator, dtype=x.dtype))
        variance = (1 - 0.1 * K) ** 2 * variance + 2 * 0.1 * 0.5**2
    assert y.var().item() == pytest.approx(variance, rel=5 * (2 / 20_000) ** 0.5)
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    assert variance == pytest.approx(0.5**2 / K / (1 - 0.1 * K / 2), rel=1e-4)  # exp(-E / noise_scale^2) as the step vanishes


def test_leapfrogs_are_reversible_and_keep_the_energy():
    y, p = torch.tensor([[[2.0]]], dtype=torch.float64), torch.tensor([[[0.7]]], dtype=torch.float64)

    def drift(h: float) -> float:
        there, momentum = Hamiltonian(h=h, mass=2.0, leapfrogs=round(1 / h)).leap(slope, y, p)
        return abs(float(energy(there, momentum) - energy(y, p)))

    def energy(y: Tensor, p: Tensor) -> Tensor:
        return K / 2 * (y - 1) ** 2 + p**2 / 4

    dynamics = Hamiltonian(h=0.1, mass=2.0)
    there, momentum = dynamics.leap(slope, y, p)
    back, reversed_momentum = dynamics.leap(slope, there, -momentum)
    torch.testing.assert_close(back, y, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(reversed_momentum, -p, rtol=1e-13, atol=1e-13)
    assert drift(0.1) / drift(0.05) == pytest.approx(4, rel=0.1)  # second order


def test_friction_and_noise_keep_the_law_of_the_momentum():
    dynamics = Underdamped(h=0.3, mass=2.0, friction=1.5)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    damped, kicked = dynamics.rub(one, silence).item(), dynamics.rub(0 * one, lambda like: one).item()
    assert damped < 1
    assert damped**2 * dynamics.mass + kicked**2 == pytest.approx(dynamics.mass, rel=1e-13)


def test_critical_damping():
    assert Underdamped.critical(mass=4.0, h=0.1) == Underdamped(h=0.1, mass=4.0, friction=4.0)
    y, p = torch.tensor([[[2.0]]], dtype=torch.float64), torch.tensor([[[0.7]]], dtype=torch.float64)
    free = Underdamped(h=0.1, friction=0.0).step(slope, y, lambda like: p)
    assert torch.equal(free, Hamiltonian(h=0.1).step(slope, y, lambda like: p))


@pytest.mark.parametrize(("dynamics", "draws"), list(zip(DYNAMICS, (1, 2, 11, 13, 13), strict=True)))
def test_draws_and_evaluations(dynamics, draws):
    model, counted = gaussian_model(), []

    def noise(like: Tensor) -> Tensor:
        counted.append(like.shape)
        return torch.zeros_like(like)

    base = start(model, base_forecast())
    Refiner(energy=ImplicitEnergy(tau=4), dynamics=dynamics, iterations=3).walk(model, base, noise)
    assert len(counted) == 3 * draws
    assert len(model.backbone.calls) == 3 * (10 if isinstance(dynamics, Hamiltonian) else 1)


# --- the whole


@pytest.mark.parametrize("refiner", REFINERS, ids=lambda r: type(r.dynamics).__name__)
def test_neither_pieces_nor_neighbours_matter(refiner):
    model, values, base = gaussian_model(), gap(past(gaussian_model(), 3)), base_forecast(3)
    whole = refiner.refine(model, model.window(values), base, paths=4, seed=7)
    assert whole.shape == base.shape
    for batch in (1, 5):
        pieces = refiner.refine(model, model.window(values), base, paths=4, seed=7, batch=batch)
        torch.testing.assert_close(pieces, whole, rtol=1e-12, atol=1e-12)
    alone = refiner.refine(model, model.window(values[2:]), base[2:], paths=4, seed=7 + 8)
    torch.testing.assert_close(alone, whole[2:], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("refiner", REFINERS, ids=lambda r: type(r.dynamics).__name__)
def test_refined_forecasts_scale_with_the_series(refiner):
    model, values, base = gaussian_model(), past(gaussian_model()), base_forecast()
    got, scaled = (refiner.refine(model, model.window(c * values), c * base, paths=4) for c in (1.0, 250.0))
    torch.testing.assert_close(scaled, 250 * got, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_there_where_the_caller_has_none(context):
    model, refiner = gaussian_model(), REFINERS[1]
    wanted = refiner.refine(model, model.window(past(model)), base_forecast(), paths=4)
    with context():
        got = refiner.refine(model, model.window(past(model)), base_forecast(), paths=4)
    assert torch.equal(got, wanted)
    assert not any(model.backbone.learning)
    assert model.backbone.gain.requires_grad
    assert model.backbone.gain.grad is None


def test_base_paths_are_sorted_step_by_step_and_points_repeated():
    model = gaussian_model()
    window, none = model.window(past(model)), Refiner(iterations=0)
    base = base_forecast()
    torch.testing.assert_close(none.refine(model, window, base, paths=4), base.sort(1).values, rtol=1e-14, atol=0)
    point = none.refine(model, window, base[:, :1], paths=6)
    torch.testing.assert_close(point, base[:, :1].expand(-1, 6, -1), rtol=1e-14, atol=0)
    order = torch.tensor([2, 0, 3, 1])
    refined = [REFINERS[1].refine(model, window, b, paths=4) for b in (base, base[:, order])]
    assert torch.equal(*refined)


def test_energy_falls_under_descent():
    model = gaussian_model()
    base, energy = start(model, base_forecast()), ImplicitEnergy(tau=4, regulariser=SQUARE, region="whole")
    refined = Refiner(energy=energy, dynamics=Descent(lr=0.02), iterations=40).walk(model, base, silence)
    before, after = (energy(model, y, base, silence).item() for y in (base.window.x, refined))
    assert after < 0.7 * before


# --- the seasonal naive start


def test_seasonal_naive_repeats_the_last_season():
    model = gaussian_model(context=7, horizon=5, lags=())
    values = torch.arange(1.0, 15.0, dtype=torch.float64).view(2, 7)
    got = seasonal_naive(model.window(values), 3)
    torch.testing.assert_close(got, torch.tensor([[[5.0, 6, 7, 5, 6]], [[12, 13, 14, 12, 13]]], dtype=torch.float64))


def test_seasonal_naive_of_gaps_and_short_contexts():
    model = gaussian_model(context=7, horizon=5, lags=())
    nan = torch.nan
    values = torch.tensor([[1.0, 2, 3, nan, 5, nan, 7], [nan, nan, 2, 3, nan, 4, 6]], dtype=torch.float64)
    got = seasonal_naive(model.window(values), 3)[:, 0, :3]
    torch.testing.assert_close(got, torch.tensor([[5.0, 3, 7], [3.75, 4, 6]], dtype=torch.float64))
    mean = seasonal_naive(model.window(values), 8)
    torch.testing.assert_close(mean, torch.tensor([3.6, 3.75], dtype=torch.float64).view(2, 1, 1).expand(2, 1, 5))


# --- the representative step


def test_representative_step_is_nearest_to_the_mean_loss():
    model = gaussian_model()
    window = model.window(past(model, 40), future=past(model, 40, seed=1)[:, :3])
    losses = model.losses(window, MemberNoise(11, 40))
    tau = representative_step(model, window, seed=11)
    distance = (losses - losses.mean()).abs()
    assert distance[tau] == distance.min()
    assert 0 < tau < T - 1
    assert representative_step(model, window, seed=11, batch=7) == tau


# --- bad input


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (base_forecast()[0], "shape"),
        (base_forecast(3), "shape"),
        (base_forecast(paths=3), "4 or 1"),
        (base_forecast(horizon=2), "shape"),
        (base_forecast().index_fill(2, torch.tensor([1]), torch.nan), r"finite, got nan at \[0, 0, 1\]"),
    ],
)
def test_bad_base(base, message):
    model = gaussian_model()
    with pytest.raises(ValueError, match=message):
        Refiner().refine(model, model.window(past(model)), base, paths=4)


def test_a_time_the_model_does_not_have():
    model = gaussian_model()
    with pytest.raises(ValueError, match=r"tau must lie in 0\.\.9"):
        Refiner().refine(model, model.window(past(model)), base_forecast(), paths=4)


def test_divergence_is_reported():
    model = gaussian_model()
    refiner = Refiner(energy=ImplicitEnergy(tau=4, regulariser=SQUARE), dynamics=Descent(lr=1e30))
    with pytest.raises(ValueError, match=r"diverge for series \[0, 1\]; lower the step of Descent"):
        refiner.refine(model, model.window(past(model)), base_forecast(), paths=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImplicitEnergy(weight=-1), "weight"),
        (lambda: ImplicitEnergy(tau=-1), "tau"),
        (lambda: ImplicitEnergy(region="paper"), "region"),
        (lambda: Refiner(iterations=-1), "iterations"),
        (lambda: Descent(lr=0), "lr"),
        (lambda: Langevin(eta=float("nan")), "eta"),
        (lambda: Langevin(noise_scale=-1), "noise_scale"),
        (lambda: Hamiltonian(mass=0), "mass"),
        (lambda: Hamiltonian(leapfrogs=0), "leapfrogs"),
        (lambda: Underdamped(friction=-1), "friction"),
        (lambda: Underdamped.critical(mass=-1), "mass"),
        (lambda: seasonal_naive(gaussian_model().window(past(gaussian_model())), 0), "season"),
        (
            lambda: Refiner().refine(m := gaussian_model(), m.window(past(m)), base_forecast(), paths=4),
            r"tau must lie in 0\.\.9",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
