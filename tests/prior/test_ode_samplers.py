"""What every deterministic sampler with a memory promises: costs, seeds, batches, the last step, guidance, errors."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from prior.denoiser import EDMHead, NoiseHead, VelocityHead
from prior.grids import grid, log_snr, uniform
from prior.mixture import GaussianMixture
from prior.samplers import DEIS, GHVB, HB, IPNDM, DPMSolver, EVODiff, Nesterov, RungeKutta
from prior.schedules import EDM, VE, VP, Cosine, Linear, RectifiedFlow, SubVP
from tests.prior.flow import trajectory
from tests.prior.gaussian import gaussian_model

MEAN, STD = 0.3, 0.5
SHAPE = (4, 1, 64, 64)  # 16384 draws: the mean is known to 0.004, the deviation to 0.0028
SAMPLERS = {  # and what six steps to the clean image cost
    "dpm": (DPMSolver(steps=6), 6),
    "dpm-sde": (DPMSolver(steps=6, sde=True), 6),
    "tab": (DEIS(steps=6), 6),
    "rhoab": (DEIS(steps=6, variant="rhoAB"), 6),
    "ipndm": (IPNDM(steps=6), 6),
    "ghvb": (GHVB(steps=6, number=2.5), 6),
    "hb": (HB(steps=6), 6),
    "nesterov": (Nesterov(steps=6), 6),
    "evodiff": (EVODiff(steps=6), 6),
    "evodiff-full": (EVODiff(steps=6, final="full"), 7),
    "evodiff-official": (EVODiff(steps=6, final="official"), 6),
    "euler": (RungeKutta(steps=6, method="euler"), 6),
    "rk2": (RungeKutta(steps=6, method="heun"), 11),
    "rk3": (RungeKutta(steps=6, method="ssprk3"), 16),
    "rk4": (RungeKutta(steps=6, method="rk4"), 21),
}
samplers = pytest.mark.parametrize(("sampler", "calls"), SAMPLERS.values(), ids=SAMPLERS.keys())
REMEMBER = {key: sampler for key, (sampler, _) in SAMPLERS.items() if not isinstance(sampler, RungeKutta)}
remembering = pytest.mark.parametrize("sampler", REMEMBER.values(), ids=REMEMBER.keys())
MODELS = {
    "linear": (Linear(), NoiseHead()),
    "cosine": (Cosine(), NoiseHead()),
    "respaced": (Linear().respace(50), NoiseHead()),
    "vp": (VP(), NoiseHead()),
    "subvp": (SubVP(), NoiseHead()),
    "ve": (VE(), NoiseHead()),
    "edm": (EDM(), EDMHead()),
    "flow": (RectifiedFlow(), VelocityHead()),
}
models = pytest.mark.parametrize(("schedule", "head"), MODELS.values(), ids=MODELS.keys())


def double(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- costs, seeds, batches, dtypes


@samplers
@models
def test_evaluations_of_the_network(sampler, calls, schedule, head):
    model, seen = gaussian_model(schedule, head), []
    x = sampler.sample(model, (1, 1, 4, 4), progress=lambda done, total: seen.append((done, total)))
    assert model.network.calls == calls
    assert seen == [(i, 6) for i in range(1, 7)]
    assert bool(x.isfinite().all())


@samplers
def test_evaluations_of_a_walk_that_stays_noisy(sampler, calls):
    model, times = gaussian_model(VP()), grid(VP(), 7, "log_snr")[:-1]
    trajectory(sampler, model, double(1, 1, 2, 2), times, double(6, 1, 1, 2, 2))
    stages = {"rk2": 12, "rk3": 18, "rk4": 24}
    wanted = {SAMPLERS[key][0]: cost for key, cost in stages.items()}
    assert model.network.calls == wanted.get(sampler, calls)


@samplers
def test_same_seed_same_bytes_and_a_batch_is_its_members(sampler, calls):
    model = gaussian_model(Linear())
    batch = sampler.sample(model, (3, 1, 8, 8), seed=5)
    assert torch.equal(batch, sampler.sample(model, (3, 1, 8, 8), seed=5))
    for i in range(3):
        assert torch.equal(batch[i : i + 1], sampler.sample(model, (1, 1, 8, 8), seed=5 + i))
    assert float((batch[0] - batch[1]).abs().max()) > 0.1


@samplers
@pytest.mark.parametrize("schedule", [Linear(), EDM()], ids=["linear", "edm"])
def test_single_precision(sampler, calls, schedule):
    model, times = GaussianMixture.random((2, 4, 4)).denoiser(schedule), log_snr(schedule, 12)
    x, noise = float(schedule.sigma(times[0])) * double(2, 2, 4, 4), double(12, 2, 2, 4, 4, seed=1)
    wanted = trajectory(sampler, model, x, times, noise)[-1]
    got = trajectory(sampler, model, x.float(), times, noise.float())[-1]
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=1e-4)


@remembering
def test_walks_do_not_share_their_history(sampler):
    model, times = gaussian_model(VP()), log_snr(VP(), 6)
    draws = [double(2, 1, 3, 3, seed=k) for k in range(2)]
    noise = double(6, 2, 1, 3, 3, seed=2)
    alone = [trajectory(sampler, model, x, times, noise)[-1] for x in draws]
    steps, x = [sampler.begin(VP(), times) for _ in draws], draws
    for i in range(6):
        x = [step(model, y, times[i], times[i + 1], noise[i], None) for step, y in zip(steps, x, strict=True)]
    assert all(torch.equal(got, wanted) for got, wanted in zip(x, alone, strict=True))


# --- where they arrive


@samplers
@models
def test_the_last_step_is_the_clean_image(sampler, calls, schedule, head):
    model, times = gaussian_model(schedule, head), sampler.times(schedule)
    states = trajectory(sampler, model, float(schedule.sigma(times[0])) * double(2, 1, 3, 3), times, double(6, 2, 1, 3, 3))
    torch.testing.assert_close(states[-1], model(states[-2], times[-2]).x0, rtol=0, atol=1e-12)


@models
@pytest.mark.parametrize(
    "sampler",
    [
        DPMSolver(steps=30), DPMSolver(steps=100, sde=True), DEIS(steps=60, spacing="log_snr", order=2),
        DEIS(steps=60, spacing="log_snr", variant="rhoAB"), IPNDM(steps=60, spacing="log_snr"),
        GHVB(steps=60, spacing="log_snr"), RungeKutta(steps=40, method="rk4"), EVODiff(steps=60),
    ],
    ids=lambda s: type(s).__name__,
)  # fmt: skip
def test_reaches_the_prior(schedule, head, sampler):
    x = sampler.sample(gaussian_model(schedule, head), SHAPE, seed=1)
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.015)
    assert float(x.std()) == pytest.approx(STD, abs=0.015)


# --- guidance


@pytest.mark.parametrize(
    "sampler",
    [
        DPMSolver(steps=40), DPMSolver(steps=100, sde=True), DEIS(steps=40, spacing="quadratic"), IPNDM(steps=60),
        GHVB(steps=60, spacing="quadratic"), HB(steps=300, spacing="quadratic"), Nesterov(steps=100, spacing="quadratic"),
        EVODiff(steps=100), RungeKutta(steps=20),
    ],
    ids=lambda s: type(s).__name__,
)  # fmt: skip
def test_exact_guidance_samples_the_posterior(sampler):
    schedule, y, noise = Linear(), 1.1, 0.4

    def guidance(x, t):
        alpha, sigma = (f(t).to(x).view(-1, 1, 1, 1) for f in (schedule.alpha, schedule.sigma))
        total = alpha**2 * STD**2 + sigma**2
        gain = STD**2 * alpha / total
        return gain * (y - MEAN - gain * (x - alpha * MEAN)) / (STD**2 * sigma**2 / total + noise**2)

    x = sampler.sample(gaussian_model(schedule), SHAPE, guidance=guidance)
    precision = 1 / STD**2 + 1 / noise**2
    assert float(x.mean()) == pytest.approx((MEAN / STD**2 + y / noise**2) / precision, abs=0.015)
    assert float(x.std()) == pytest.approx(precision**-0.5, abs=0.015)


@samplers
def test_guidance_reaches_every_evaluation(sampler, calls):
    seen = []

    def guidance(x, t):
        seen.append(float(t[0]))
        return torch.zeros_like(x)

    sampler.sample(gaussian_model(Linear()), (1, 1, 2, 2), guidance=guidance)
    assert len(seen) == calls


# --- values and errors


@samplers
def test_samplers_are_values(sampler, calls):
    assert eval(repr(sampler)) == sampler
    with pytest.raises(FrozenInstanceError):
        sampler.steps = 3


@remembering
def test_a_batch_keeps_its_size_during_a_walk(sampler):
    model, times = gaussian_model(VP()), log_snr(VP(), 6)
    step, z = sampler.begin(VP(), times), double(3, 1, 2, 2)
    step(model, double(3, 1, 2, 2), times[0], times[1], z, None)
    with pytest.raises(ValueError, match=r"x must keep its shape during a walk, \(3, 1, 2, 2\), got \(2, 1, 2, 2\)"):
        step(model, double(2, 1, 2, 2), times[1], times[2], z[:2], None)


@remembering
def test_steps_are_taken_in_order(sampler):
    model, times = gaussian_model(VP()), torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64)
    step, x = sampler.begin(VP(), times), double(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"the step from 0\.5 to 0\.25 is due, got 0\.25 to 0\.125; begin a new walk"):
        step(model, x, times[1], times[2], x, None)
    step(model, x, times[0], times[1], x, None)
    step(model, x, times[1], times[2], x, None)
    with pytest.raises(ValueError, match=r"no step is due, got 0\.25 to 0\.125"):
        step(model, x, times[1], times[2], x, None)


@remembering
def test_times_must_not_repeat(sampler):
    times = torch.tensor([900.0, 500.0, 500.0, -1.0], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"times must .*got \[900\.0, 500\.0, 500\.0, -1\.0\]"):
        sampler.begin(Linear(), times)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DPMSolver(order=3), "order must be 1 or 2, got 3"),
        (lambda: DPMSolver(lower_order_final="yes"), "lower_order_final must be 'auto', 'always' or 'never', got 'yes'"),
        (lambda: DEIS(variant="AB"), "variant must be 'tAB' or 'rhoAB', got 'AB'"),
        (lambda: DEIS(order=-1), "order must not be negative, got -1"),
        (lambda: IPNDM(order=5), r"order must lie in 1\.\.4, got 5"),
        (lambda: GHVB(number=0.0), r"number must lie in \(0, 5\], order and damping as in 1\.8, got 0\.0"),
        (lambda: HB(number=5.2), r"number must lie in \(0, 5\], .* got 5\.2"),
        (lambda: RungeKutta(method="rk5"), "method must be one of euler, heun, .*rk4, got 'rk5'"),
        (lambda: EVODiff(final="none"), "final must be 'ddim', 'full' or 'official', got 'none'"),
        (lambda: DPMSolver(sde=True).begin(VP(), torch.tensor([0.1, 0.2])), "times must lead to the clean image"),
        (lambda: EVODiff().walk(gaussian_model(VP()), double(2, 3), log_snr(VP(), 3)), r"x must be \(B, C, \.\.\.\)"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("sampler", [DEIS(variant="rhoAB"), EVODiff(), RungeKutta()], ids=lambda s: type(s).__name__)
def test_an_infinite_noise_level_is_refused(sampler):
    model = gaussian_model(RectifiedFlow(), VelocityHead())
    with pytest.raises(ValueError, match=r"finite noise level.*got t = 1 of RectifiedFlow"):
        sampler.walk(model, double(1, 1, 2, 2), uniform(RectifiedFlow(), 4))


def test_the_stochastic_form_needs_noise():
    model, times = gaussian_model(VP()), log_snr(VP(), 3)
    with pytest.raises(ValueError, match="noise must be given"):
        DPMSolver(sde=True).walk(model, double(1, 1, 2, 2), times)
    with pytest.raises(ValueError, match="noise must be given"):
        DPMSolver(sde=True).step(model, double(1, 1, 2, 2), times[0], times[1], None)
