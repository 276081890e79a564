"""Predictors and correctors on a Gaussian prior, where every marginal is known; single steps; costs, draws, batches, errors."""

import math
from dataclasses import FrozenInstanceError

import pytest
import torch

from prior.randomness import MemberNoise
from prior.samplers import PredictorCorrector
from prior.samplers.predictor_corrector import PREDICTORS
from prior.schedules import EDM, VE, VP, Linear, SubVP
from tests.prior.gaussian import gaussian_model

STD = 0.5
SCHEDULES = {"vp": VP(), "subvp": SubVP(), "ve": VE()}
CASES = {
    f"{name}-{predictor}{'-ode' * flow}": (schedule, predictor, flow)
    for name, schedule in SCHEDULES.items()
    for predictor in PREDICTORS
    for flow in (False, True)
    if predictor != "ancestral" or (name != "subvp" and not flow)
}
predictors = pytest.mark.parametrize(("schedule", "predictor", "flow"), CASES.values(), ids=CASES.keys())
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def double(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exact_variance(sampler, schedule, std=STD, start=None):
    """Of the result: on a Gaussian of mean 0 it is linear in the start and in each draw, which one member each feels alone."""
    times = sampler.times(schedule)
    corrections = sampler.corrector_steps if sampler.corrector != "none" else 0
    members = 1 + sampler.steps * (corrections + 1)
    impulses = iter(torch.eye(members, dtype=torch.float64).view(members, members, 1))
    x = next(impulses) * (start or schedule.sigma(times[0]))
    out = sampler.walk(gaussian_model(schedule, mean=0.0, std=std), x, times, noise=lambda x: next(impulses))
    assert next(impulses, None) is None
    return float(out.square().sum())


# --- what they converge to


@predictors
def test_the_variance_converges_at_first_order(schedule, predictor, flow):
    kinds = {"predictor": predictor, "corrector": "none", "probability_flow": flow, "t_end": 1e-4}
    v1, v2, v3 = (exact_variance(PredictorCorrector(steps=n, **kinds), schedule) for n in (100, 200, 400))
    assert 2 * v3 - v2 == pytest.approx(STD**2, abs=4e-3)
    assert (v2 - v1) / (v3 - v2) == pytest.approx(2, abs=0.5)


@schedules
def test_annealed_langevin_mends_what_the_predictor_leaves(schedule):
    plain, mended = (
        exact_variance(PredictorCorrector(steps=100, corrector=c, probability_flow=True, t_end=1e-4), schedule)
        for c in ("none", "ald")
    )
    assert abs(mended - STD**2) < max(0.2 * abs(plain - STD**2), 2e-3)


def test_ancestral_steps_keep_a_unit_gaussian():
    sampler = PredictorCorrector(steps=40, predictor="ancestral", corrector="none")
    schedule = VP()
    # the last step returns its mean, of variance 1 - beta_0
    assert exact_variance(sampler, schedule, std=1.0, start=1.0) == pytest.approx(1 - schedule.beta_0 / 40, abs=1e-13)


@schedules
@pytest.mark.parametrize("kinds", [{"corrector": "none"}, {"corrector": "ald"}], ids=str)
def test_samples_have_the_exact_variance(schedule, kinds):
    sampler = PredictorCorrector(steps=40, **kinds)
    x = sampler.sample(gaussian_model(schedule, mean=0.0, std=STD), (4, 1, 64, 64), seed=3)
    variance = exact_variance(sampler, schedule)
    assert float(x.square().mean()) == pytest.approx(variance, abs=3 * variance * math.sqrt(2 / x.numel()))


@schedules
def test_langevin_reaches_the_prior(schedule):
    sampler = PredictorCorrector(steps=150, corrector_steps=2, t_end=1e-4)
    x = sampler.sample(gaussian_model(schedule, mean=0.3, std=STD), (4, 1, 64, 64), seed=1)
    assert float(x.mean()) == pytest.approx(0.3, abs=0.015)
    assert float(x.std()) == pytest.approx(STD, abs=0.015)


def test_exact_guidance_samples_the_posterior():
    schedule, y, noise = VP(), 1.1, 0.4

    def guidance(x, t):
        alpha, sigma = (f(t).to(x).view(-1, 1, 1, 1) for f in (schedule.alpha, schedule.sigma))
        total = alpha**2 * STD**2 + sigma**2
        gain = STD**2 * alpha / total
        return gain * (y - gain * x) / (STD**2 * sigma**2 / total + noise**2)

    x = PredictorCorrector(steps=300).sample(gaussian_model(schedule, mean=0.0), (4, 1, 64, 64), guidance=guidance)
    precision = 1 / STD**2 + 1 / noise**2
    assert float(x.mean()) == pytest.approx(y / noise**2 / precision, abs=0.015)
    assert float(x.std()) == pytest.approx(precision**-0.5, abs=0.015)


# --- single steps against their formulas; k = 6 of N = 25


def forward(schedule, t):
    return float(schedule.drift(t)), float(schedule.diffusion(t))


def predicted(schedule, predictor, x, s, z):
    """What the paper writes for k = 6 of N = 25, t = 0.25: the next x, from the score s."""
    N, k, (f, g) = 25, 6, forward(schedule, 0.25)
    euler = x - (f * x - g**2 * s) / N + g * N**-0.5 * z
    beta = 0.1 / N + k / (N - 1) * (20.0 - 0.1) / N
    high, low = (0.01 * 5000 ** (i / (N - 1)) for i in (k, k - 1))
    gap = high**2 - low**2
    return {
        ("vp", "reverse_diffusion"): (2 - math.sqrt(1 - beta)) * x + beta * s + math.sqrt(beta) * z,
        ("ve", "reverse_diffusion"): x + gap * s + math.sqrt(gap) * z,
        ("vp", "ancestral"): (x + beta * s) / math.sqrt(1 - beta) + math.sqrt(beta) * z,
        ("ve", "ancestral"): x + gap * s + math.sqrt(low**2 * gap / high**2) * z,
    }.get((type(schedule).__name__.lower(), predictor), euler)


@predictors
def test_predictor_step(schedule, predictor, flow):
    x, z, t = double((2, 1, 3, 3)), double((2, 1, 3, 3), 1), torch.tensor(0.25, dtype=torch.float64)
    model = gaussian_model(schedule)
    sampler = PredictorCorrector(steps=25, predictor=predictor, probability_flow=flow)
    got, mean = sampler.predict(model, x, t, 6, z)
    s = model(x, t).score
    expected_mean = predicted(schedule, predictor, x, s / 2 if flow else s, 0 * z)
    torch.testing.assert_close(mean, expected_mean, rtol=0, atol=1e-12)
    expected = mean if flow else predicted(schedule, predictor, x, s, z)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@schedules
def test_corrector_step(schedule):
    x, z, t = double((2, 1, 3, 3)), double((2, 1, 3, 3), 1), torch.tensor(0.25, dtype=torch.float64)
    model = gaussian_model(schedule)
    s = model(x, t).score
    a = 1.0 if isinstance(schedule, VE) else 1 - (0.1 + 6 / 24 * 19.9) / 25
    norms = [torch.stack([member.norm() for member in batch]).view(2, 1, 1, 1) for batch in (z, s)]
    ratios = {
        ("langevin", False): norms[0] / norms[1],
        ("langevin", True): norms[0].mean() / norms[1].mean(),
        ("ald", False): schedule.sigma(t),
    }
    for (corrector, batch_norms), r in ratios.items():
        sampler = PredictorCorrector(steps=25, corrector=corrector, snr=0.2, batch_norms=batch_norms)
        e = 2 * a * (0.2 * r) ** 2
        expected = x + e * s + torch.sqrt(2 * e) * z
        torch.testing.assert_close(sampler.correct(model, x, t, 6, z), expected, rtol=0, atol=1e-12)


def test_the_last_variance_exploding_step_is_the_clean_image():
    x, t = double((2, 1, 3, 3)), torch.tensor(0.0, dtype=torch.float64)
    model = gaussian_model(VE())
    _, mean = PredictorCorrector(steps=25).predict(model, x, t, 0, x)
    torch.testing.assert_close(mean, model(x, t).x0, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("N", "t_end"), [(20, 1e-5), (25, 1e-3), (1000, 1e-5), (900, 1e-3)])
def test_the_counter_is_the_floor_of_the_authors_code(N, t_end):
    times = PredictorCorrector(steps=N, t_end=t_end).times(VE())[:-1]
    assert torch.floor(times * (N - 1)).tolist() == list(range(N - 1, -1, -1))


# --- costs, draws, batches


@pytest.mark.parametrize(
    ("kinds", "calls"),
    [
        ({"corrector": "none"}, 30),
        ({}, 60),
        ({"corrector_steps": 3}, 120),
        ({"corrector": "none", "probability_flow": True}, 30),
    ],
    ids=str,
)
@schedules
def test_evaluations_and_draws(schedule, kinds, calls):
    model, seen, draws = gaussian_model(schedule), [], []
    sampler = PredictorCorrector(steps=30, **kinds)
    x = double((1, 1, 2, 2))

    def noise(like):
        draws.append(like)
        return torch.zeros_like(like)

    sampler.walk(model, x, sampler.times(schedule), noise=noise, progress=lambda done, total: seen.append((done, total)))
    assert model.network.calls == calls
    assert len(draws) == calls
    assert seen == [(i, 30) for i in range(1, 31)]


def test_an_ode_needs_no_noise():
    sampler = PredictorCorrector(steps=30, corrector="none", probability_flow=True)
    model, x = gaussian_model(VP()), double((1, 1, 2, 2))
    times = sampler.times(VP())
    assert not sampler.stochastic
    assert torch.equal(sampler.walk(model, x, times), sampler.walk(model, x, times, noise=MemberNoise(0, 1)))


def test_the_end_of_a_grid_is_the_end_of_the_walk():
    sampler, model = PredictorCorrector(steps=30, corrector="ald"), gaussian_model(VP())
    times, x, states = sampler.times(VP()), double((1, 1, 2, 2)), []
    noises = double((60, 1, 1, 2, 2), 1)

    def draws(start):
        stream = iter(noises[start:])
        return lambda like: (states.append(like.clone()), next(stream))[1]

    whole = sampler.walk(model, x, times, noise=draws(0))
    tail = sampler.walk(model, states[20], times[10:], noise=draws(20))
    assert torch.equal(tail, whole)


def test_a_batch_is_its_members_unless_norms_are_shared():
    model = gaussian_model(VP())
    for batch_norms in (False, True):
        sampler = PredictorCorrector(steps=25, batch_norms=batch_norms)
        batch = sampler.sample(model, (3, 1, 8, 8), seed=5)
        assert torch.equal(batch, sampler.sample(model, (3, 1, 8, 8), seed=5))
        gaps = [float((batch[i : i + 1] - sampler.sample(model, (1, 1, 8, 8), seed=5 + i)).abs().max()) for i in range(3)]
        assert min(gaps) > 1e-3 if batch_norms else max(gaps) < 1e-5


def test_single_precision_follows_double():
    sampler, schedule = PredictorCorrector(steps=25), VP()
    x, noise = double((2, 1, 4, 4)), MemberNoise(0, 2)
    model = gaussian_model(schedule)
    expected = sampler.walk(model, x, sampler.times(schedule), noise=noise)
    got = sampler.walk(model, x.float(), sampler.times(schedule), noise=MemberNoise(0, 2))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-4)


# --- values and errors


def test_it_is_a_value():
    sampler = PredictorCorrector(steps=30, predictor="ancestral", snr=0.1)
    assert eval(repr(sampler)) == sampler
    with pytest.raises(FrozenInstanceError):
        sampler.snr = 1.0


def walk(schedule, times=None, noise=None, **kinds):
    sampler, x = PredictorCorrector(steps=25, **kinds), torch.zeros(2, 1, 2, 2)
    sampler.walk(gaussian_model(schedule), x, sampler.times(schedule) if times is None else times, noise=noise)


def test_a_single_step():
    schedule = VP(beta_0=0.1, beta_1=0.5)
    x = PredictorCorrector(steps=1).sample(gaussian_model(schedule), (1, 1, 2, 2))
    assert bool(x.isfinite().all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PredictorCorrector(predictor="heun"), "predictor must be one of reverse_diffusion, ancestral, .* got 'heun'"),
        (lambda: PredictorCorrector(corrector="mala"), "corrector must be one of langevin, ald, none, got 'mala'"),
        (lambda: PredictorCorrector(snr=0.0), r"snr must be positive, got 0\.0"),
        (lambda: PredictorCorrector(corrector_steps=0), "corrector_steps must be at least 1, got 0; or corrector='none'"),
        (lambda: PredictorCorrector(spacing="karras"), "spacing must be uniform, .* got 'karras'"),
        (
            lambda: PredictorCorrector(predictor="ancestral", probability_flow=True),
            "probability_flow needs the predictor reverse_diffusion or euler_maruyama, got 'ancestral'",
        ),
        (lambda: PredictorCorrector(steps=0).times(VP()), "steps must be at least 1, got 0"),
        (lambda: PredictorCorrector(t_end=1.5).times(VP()), r"t_end must lie between 0 and 1, got 1\.5"),
        (lambda: PredictorCorrector(t_end=0.0).times(VP()), r"t_end must lie between 0 and 1, got 0\.0"),
        (lambda: walk(VP()), r"noise must be given, .*MemberNoise\(seed, 2\)"),
        (
            lambda: PredictorCorrector(steps=20).sample(gaussian_model(VP()), (1, 1, 2, 2)),
            "steps must be more than beta_1 = 20, .* got 20",
        ),
        (
            lambda: walk(VP(), times=torch.tensor([1.0, 0.5])),
            r"times must be at most steps \+ 1 = 26 times that end at 0\.0, got 2 that end at 0\.5",
        ),
        (lambda: walk(VP(), times=torch.linspace(1, 0, 27)), r"times must be at most .* got 27 that end at 0"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: walk(EDM()), r"PredictorCorrector needs a VP, SubVP or VE schedule, got EDM\("),
        (lambda: walk(Linear()), r"needs a VP, SubVP or VE schedule, got Linear\("),
        (
            lambda: walk(SubVP(), noise=torch.zeros_like, predictor="ancestral", corrector="none"),
            r"the ancestral predictor needs a VP or VE schedule, got SubVP\(.*; use reverse_diffusion",
        ),
        (
            lambda: PredictorCorrector().step(gaussian_model(VP()), torch.zeros(1, 1), 1.0, 0.5, None),
            "draws several noises and counts k; call walk, or correct and predict",
        ),
    ],
)
def test_what_it_does_not_fit(make, message):
    with pytest.raises(TypeError, match=message):
        make()
