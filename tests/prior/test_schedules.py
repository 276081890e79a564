"""Schedules: closed forms, inverses, the forward SDE against finite differences, values, respacing."""

import math
from dataclasses import FrozenInstanceError

import pytest
import torch

from prior.schedules import EDM, VE, VP, Cosine, Linear, RectifiedFlow, Respaced, ScaledLinear, Schedule, SubVP

DISCRETE = {
    "linear": lambda: Linear(),
    "linear-50": lambda: Linear(T=50, beta_max=0.01),
    "scaled-linear": lambda: ScaledLinear(),
    "cosine": lambda: Cosine(),
    "respaced-250": lambda: Linear().respace("250"),
    "respaced-ddim": lambda: Cosine().respace("ddim25"),
}
CONTINUOUS = {
    "ve": lambda: VE(),
    "ve-narrow": lambda: VE(sigma_min=0.1, sigma_max=2.0),
    "vp": lambda: VP(),
    "vp-slow": lambda: VP(beta_0=0.05, beta_1=4.0, time_scale=999.0),
    "subvp": lambda: SubVP(),
    "edm": lambda: EDM(),
    "flow": lambda: RectifiedFlow(),
}
SCHEDULES = {**DISCRETE, **CONTINUOUS}
discrete = pytest.mark.parametrize("make", DISCRETE.values(), ids=DISCRETE.keys())
every = pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES.keys())


def interior(schedule, count=41):
    """Times strictly inside the range and off the whole steps, where the derivatives exist."""
    low, high = schedule.t_min, min(schedule.t_max, 0.95) if isinstance(schedule, RectifiedFlow) else schedule.t_max
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    t = low + u * (high - low)
    return t.floor() + 0.4 if hasattr(schedule, "T") else t


def close(a, b, tol=1e-10):
    torch.testing.assert_close(
        torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64), rtol=tol, atol=tol
    )


def test_linear_numbers():
    s = Linear()
    assert s.T == 1000
    close(s.betas[[0, -1]], [1e-4, 2e-2])
    close(s.abar[0], 0.9999)
    assert float(s.abar[999]) == pytest.approx(4.0358e-5, rel=1e-5)
    assert float(s.level(999)) == pytest.approx(157.407, abs=1e-3)


def test_linear_ends_scale_with_the_number_of_steps():
    close(Linear(T=100).betas[[0, -1]], [1e-3, 0.2])
    assert float(Linear(T=500).abar[-1]) == pytest.approx(float(Linear().abar[-1]), rel=0.1)


def test_scaled_linear_is_linear_in_the_root():
    roots = ScaledLinear().betas.sqrt()
    close(roots[[0, -1]] ** 2, [0.00085, 0.012])
    close(roots.diff(), torch.full((999,), (math.sqrt(0.012) - math.sqrt(0.00085)) / 999))


def test_cosine_numbers():
    s = Cosine(T=200)
    u = torch.tensor([1, 50, 150], dtype=torch.float64) / 200
    f = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    close(s.abar[[0, 49, 149]], f)
    assert float(s.betas.max()) == 0.999


@discrete
def test_variance_preserved_and_decreasing(make):
    s = make()
    t = torch.linspace(-1, s.T - 1, 333, dtype=torch.float64)
    close(s.alpha(t) ** 2 + s.sigma(t) ** 2, torch.ones(333))
    assert bool((s.alpha(t).diff() < 0).all())
    close(s.alpha(torch.arange(s.T)) ** 2, s.abar)


@discrete
def test_between_steps_log_abar_is_linear(make):
    s = make()
    close(s.log_abar(4.25), 0.75 * s.abar[4].log() + 0.25 * s.abar[5].log())
    close(s.log_abar(-0.5), 0.5 * s.abar[0].log())


@discrete
def test_posterior_tables(make):
    s = make()
    k = 7
    abar, prev, beta = s.abar[k], s.abar[k - 1], 1 - s.abar[k] / s.abar[k - 1]
    close(s.betas[k], beta)
    close(s.posterior_variance[k], beta * (1 - prev) / (1 - abar))
    c1, c2 = s.posterior_mean_coefficients
    close(c1[k], beta * prev.sqrt() / (1 - abar))
    close(c2[k], (1 - prev) * (1 - beta).sqrt() / (1 - abar))
    close([c1[0], c2[0], s.posterior_variance[0]], [1.0, 0.0, 0.0], 1e-9)
    close(s.posterior_log_variance[:2], s.posterior_variance[1].log().expand(2))


@discrete
def test_posterior_mean_keeps_the_marginal(make):
    s = make()
    c1, c2 = s.posterior_mean_coefficients
    close(c1 + c2 * s.abar.sqrt(), s.abar_prev.sqrt())
    close(c2**2 * (1 - s.abar) + s.posterior_variance, 1 - s.abar_prev)


def test_ve_closed_form():
    s = VE(sigma_min=0.01, sigma_max=50.0)
    close(s.sigma(torch.tensor([0.0, 0.5, 1.0])), [0.01, math.sqrt(0.5), 50.0])
    close(s.alpha(0.3), 1.0)
    close(s.diffusion(1.0), 50 * math.sqrt(2 * math.log(5000)))
    close(s.drift(0.3), 0.0)


def test_edm_closed_form():
    s = EDM(sigma_min=0.1, sigma_max=7.0)
    assert (s.t_min, s.t_max, s.clean) == (0.1, 7.0, 0.0)
    close([s.alpha(3.0), s.sigma(3.0), s.level(3.0), s.diffusion(3.0)], [1.0, 3.0, 3.0, math.sqrt(6)])


def test_flow_closed_form():
    s = RectifiedFlow()
    close([s.alpha(0.2), s.sigma(0.2), s.level(0.2), s.time(0.25), s.drift(0.2)], [0.8, 0.2, 0.25, 0.2, -1.25])
    close(s.diffusion(0.2), math.sqrt(0.5))
    close(s.time(math.inf), 1.0)


@every
def test_time_inverts_level(make):
    s = make()
    for t in (interior(s), torch.tensor([s.t_min, s.t_max])):
        close(s.time(s.level(t)), t, 1e-7)


@discrete
def test_time_of_levels_beyond_the_table_is_its_end(make):
    s = make()
    close(s.time(torch.tensor([0.0, 1e9])), [-1.0, s.T - 1.0])


@every
def test_clean_is_clean_and_t_max_is_the_noisiest(make):
    s = make()
    close([s.sigma(s.clean), s.alpha(s.clean), s.level(s.clean)], [0.0, 1.0, 0.0])
    assert s.clean < s.t_min < s.t_max
    assert float(s.level(s.t_min)) < float(s.level(s.t_max))


@every
def test_log_snr(make):
    s = make()
    t = interior(s)
    close(s.log_snr(t), torch.log(s.alpha(t) ** 2 / s.sigma(t) ** 2), 1e-8)


@every
def test_drift_and_diffusion_against_finite_differences(make):
    s = make()
    t, h = interior(s), 1e-5 * (s.t_max - s.t_min)
    drift = (s.alpha(t + h).log() - s.alpha(t - h).log()) / (2 * h)
    variance_rate = (s.sigma(t + h) ** 2 - s.sigma(t - h) ** 2) / (2 * h)
    close(s.drift(t), drift, 1e-5)
    close(s.diffusion(t) ** 2, variance_rate - 2 * drift * s.sigma(t) ** 2, 1e-4)


@every
def test_answers_are_float64_of_the_shape_of_t(make):
    s = make()
    t = torch.full((2, 3), 0.5 * (s.t_min + s.t_max), dtype=torch.float32)
    for answer in (s.alpha(t), s.sigma(t), s.level(t), s.log_snr(t), s.drift(t), s.diffusion(t), s.network_time(t)):
        assert (answer.dtype, answer.shape) == (torch.float64, (2, 3))
    assert s.sigma(0.5).shape == ()


@every
def test_values_compare_hash_and_rebuild(make):
    s = make()
    assert s == make()
    assert hash(s) == hash(make())
    assert eval(repr(s)) == s
    with pytest.raises(FrozenInstanceError):
        s.t_max_of_mine = 3


def test_different_fields_differ():
    assert Linear() != Linear(T=999)
    assert Linear() != ScaledLinear()
    assert EDM() != EDM(sigma_max=81.0)


def test_respaced_process():
    base = Linear()
    s = base.respace("10,15,20")
    assert isinstance(s, Respaced)
    assert s.T == 45
    assert (s.kept[:3], s.kept[9:12], s.kept[-1]) == ((0, 37, 74), (333, 334, 358), 999)
    close(s.abar, base.abar[list(s.kept)])
    close(s.network_time(torch.tensor([0, 1, 44])), [0, 37, 999])
    close(s.network_time(0.5), 18.5)
    close(Linear().network_time(17.5), 17.5)


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ("ddim25", list(range(0, 1000, 40))),
        (1000, list(range(1000))),
        ("1", [0]),
        (2, [0, 999]),
        ("5", [0, 250, 500, 749, 999]),  # strides of 249.75, halves to even
        ("2,2,2", [0, 333, 334, 666, 667, 999]),  # sections of 334, 333, 333
    ],
)
def test_respaced_steps(steps, kept):
    assert list(Linear().respace(steps).kept) == kept


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("ddim400", "no integer stride takes 400 steps out of 1000"),
        ("1001", r"section 0 has 1000 steps, so its count must be 1\.\.1000, got 1001"),
        ("10,0", "section 1 has 500 steps"),
    ],
)
def test_respacing_errors(steps, message):
    with pytest.raises(ValueError, match=message):
        Linear().respace(steps)


@pytest.mark.parametrize("kept", [(), (3, 2), (1, 1), (-1, 4), (0, 1000)])
def test_kept_steps_must_be_increasing_and_in_range(kept):
    with pytest.raises(ValueError, match=r"kept must be increasing steps within 0\.\.999, got"):
        Respaced(base=Linear(), kept=kept)


@pytest.mark.parametrize("t", [-1.5, 999.5, torch.tensor([0.0, 1000.0])])
def test_times_outside_the_chain(t):
    with pytest.raises(ValueError, match=r"t must lie in \[-1, 999\]"):
        Linear().alpha(t)


@pytest.mark.parametrize("make", [VE, EDM])
@pytest.mark.parametrize("ends", [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (1.0, math.inf)])
def test_sigmas_must_increase(make, ends):
    with pytest.raises(ValueError, match="sigma_min and sigma_max must satisfy 0 < sigma_min < sigma_max, got"):
        make(sigma_min=ends[0], sigma_max=ends[1])


@pytest.mark.parametrize("t_min", [0.0, -0.1, 1.0])
def test_the_end_of_vp_is_noisy(t_min):
    with pytest.raises(ValueError, match=rf"t_min must lie strictly between 0, which is clean, and 1, got {t_min}"):
        VP(t_min=t_min)


def test_no_steps():
    with pytest.raises(ValueError, match="T must be at least 1, got 0"):
        Linear(T=0)


@pytest.mark.parametrize("method", ["alpha", "sigma", "time", "drift", "diffusion"])
def test_a_schedule_without_a_method_says_which(method):
    with pytest.raises(NotImplementedError, match=rf"Schedule must define {method}\("):
        getattr(Schedule(), method)(0.5)
