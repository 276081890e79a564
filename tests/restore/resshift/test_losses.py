"""Training losses: closed forms, the bound in four parametrisations, the perceptual part and its guard."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prior.schedules import Shifted
from restore.resshift.losses import Perceptual, ShiftedLoss
from restore.resshift.prediction import PREDICTIONS, Condition, Shares, ShiftedDenoiser

CHAIN, T = Shifted(T=15, min_noise=0.04), torch.tensor([0, 3, 14])
SIZE = (3, 2, 4, 4)


def normal(seed=0, shape=SIZE):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a, b, tol=1e-10):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


class Told(nn.Module):
    def __init__(self, out):
        super().__init__()
        self.out, self.calls = out, 0

    def forward(self, x, t, lq):
        self.calls += 1
        return self.out


X0, Y, EPS = normal(1), normal(2), normal(3)


def told(name, off):
    """A denoiser whose clean image is wrong by ``off``, and its network."""
    shares = Shares.at(CHAIN, T, X0)
    prediction = PREDICTIONS[name]
    per_unit = {"xstart": 1, "residual": -1, "epsilon": -1 / prediction.gain(shares), "epsilon_scale": -shares.clean}[name]
    network = Told(prediction.target(X0, Y, EPS, shares) + off * per_unit)
    return ShiftedDenoiser(network, CHAIN, prediction=name)


def evaluate(loss, model, **given):
    return loss.terms(model, X0, eps=EPS, t=T, condition=Condition(Y, Y), **given)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_bound_is_the_same_in_every_parametrisation(name):
    off = normal(4)
    terms = evaluate(ShiftedLoss(weighted=True), told(name, off))
    error = off.square().flatten(1).mean(1)
    eta, before, variance = CHAIN.eta, CHAIN.eta_prev, CHAIN.posterior_variance_clipped
    close(terms.x0, X0 + off, 1e-9)
    close(terms.mse, error * (0.5 / variance * ((eta - before) / eta) ** 2)[T], 1e-9)
    assert terms.perceptual is None


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_perfect_network_has_no_loss_and_is_asked_once(name):
    for weighted in (False, True):
        model = told(name, torch.zeros(SIZE).double())
        close(ShiftedLoss(weighted=weighted)(model, X0, eps=EPS, t=T, condition=Condition(Y, Y)), torch.zeros(3).double())
        assert model.network.calls == 1


def test_unweighted():
    """The error of the output itself; for epsilon_scale in units of its noise, so that it equals that of epsilon."""
    off = torch.full(SIZE, 0.3, dtype=torch.float64)
    for name in ("xstart", "residual"):
        close(evaluate(ShiftedLoss(), told(name, off)).total, torch.full((3,), 0.09, dtype=torch.float64))
    epsilon = evaluate(ShiftedLoss(), told("epsilon", off)).total
    close(evaluate(ShiftedLoss(), told("epsilon_scale", off)).total, epsilon)
    close(epsilon, 0.09 * ((1 - CHAIN.eta) / CHAIN.std)[T] ** 2)
    half = ShiftedLoss(mse_weight=0.5)
    close(evaluate(half, told("xstart", off)).total, torch.full((3,), 0.045, dtype=torch.float64))
    terms = evaluate(ShiftedLoss(root=True), told("xstart", off))
    close(terms.total, torch.full((3,), 0.3, dtype=torch.float64))
    close(terms.mse, torch.full((3,), 0.09, dtype=torch.float64))


def test_the_root_has_a_gradient_where_nothing_is_wrong():
    model = told("xstart", torch.zeros(SIZE).double())
    model.network.out = nn.Parameter(model.network.out)
    evaluate(ShiftedLoss(root=True), model).total.sum().backward()
    assert torch.equal(model.network.out.grad, torch.zeros_like(model.network.out))


def distance(a, b):
    return (a - b).abs().mean((1, 2, 3), keepdim=True)


def test_perceptual():
    off, image = 2 * torch.ones(SIZE).double(), torch.zeros(3, 2, 8, 8).double()
    decode = lambda z: F.interpolate(z, scale_factor=2, mode="nearest")  # noqa: E731
    loss = ShiftedLoss(perceptual=Perceptual(distance, decode), perceptual_weight=10.0)
    terms = evaluate(loss, told("residual", off), image=image)
    wanted = decode(X0 + off).clamp(-1, 1).abs().mean((1, 2, 3))
    close(terms.perceptual, wanted)
    close(terms.total, 4 + 10 * wanted)
    close(terms.mse, torch.full((3,), 4.0).double())
    pixels = ShiftedLoss(perceptual=Perceptual(distance))
    close(evaluate(pixels, told("xstart", off), image=X0).perceptual, ((X0 + off).clamp(-1, 1) - X0).abs().mean((1, 2, 3)))


def test_the_gradient_passes_through_a_frozen_decoder():
    decoder = nn.Conv2d(2, 2, 1, dtype=torch.float64).requires_grad_(False)
    model = told("xstart", torch.zeros(SIZE).double())
    model.network.out = nn.Parameter(0.1 * model.network.out)
    loss = ShiftedLoss(perceptual=Perceptual(distance, decoder), mse_weight=0.0)
    evaluate(loss, model, image=torch.full(SIZE, -0.9).double()).total.sum().backward()
    assert float(model.network.out.grad.abs().min()) > 0
    assert decoder.weight.grad is None


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_perceptual_part_that_is_not_finite_is_left_out(bad):
    def broken(a, b):
        return distance(a, b) * torch.tensor([1.0, bad, 1.0]).view(3, 1, 1, 1)

    model = told("xstart", torch.ones(SIZE).double())
    model.network.out = nn.Parameter(model.network.out)
    terms = evaluate(ShiftedLoss(perceptual=Perceptual(broken)), model, image=X0)
    assert terms.perceptual is None
    close(terms.total, torch.ones(3).double())
    terms.total.sum().backward()
    assert bool(model.network.out.grad.isfinite().all())


def test_precision():
    """A network in half precision has a float32 loss."""
    x0, y, eps = (x.float() for x in (X0, Y, EPS))
    model = ShiftedDenoiser(Told((x0 + 0.5).half()), CHAIN)
    loss = ShiftedLoss()(model, x0, eps=eps, t=T, condition=Condition(y, y))
    assert loss.dtype == torch.float32
    close(loss, torch.full((3,), 0.25), 2e-3)


def test_bad_input():
    model, off = told("xstart", torch.zeros(SIZE).double()), torch.zeros(SIZE).double()
    for name in ("mse_weight", "perceptual_weight"):
        with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
            ShiftedLoss(**{name: -1})
    with pytest.raises(ValueError, match="image must be given"):
        evaluate(ShiftedLoss(perceptual=Perceptual(distance)), model)
    with pytest.raises(ValueError, match=r"image must have the shape of the decoded x0, .*got \(3, 2, 8, 8\)"):
        evaluate(ShiftedLoss(perceptual=Perceptual(distance)), model, image=torch.zeros(3, 2, 8, 8))
    with pytest.raises(ValueError, match=r"distance must give one value a member, 3, got shape \(\)"):
        evaluate(ShiftedLoss(perceptual=Perceptual(F.mse_loss)), model, image=off)
    with pytest.raises(ValueError, match=r"t must be whole, in 0..14, got \[0, 3, 15\]"):
        ShiftedLoss()(model, X0, eps=EPS, t=torch.tensor([0, 3, 15]), condition=Condition(Y, Y))
