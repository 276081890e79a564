"""DiffusionMBIR step by step, and what it refuses."""

import math
import warnings

import pytest
import torch

from inverse.operators.noise import Gaussian
from medical.samplers import DiffusionMBIR, Run
from medical.samplers.coupling import Coupling, shrink
from tests.medical.classical.problems import Dense, randn
from tests.medical.operators.examples import PROJECTORS
from tests.medical.samplers.problems import MEAN, TAU, prior, problem, slices


def score(x, sigma):
    return -(x - MEAN) / (sigma**2 + TAU**2)


@pytest.mark.parametrize("whole_chunks", [False, True])
def test_one_step_by_hand(whole_chunks):
    A, y, _ = slices(4)
    sampler = DiffusionMBIR(steps=5, whole_chunks=whole_chunks, weight=0.3, rho=0.5, norm=1.0)
    given = problem(prior(), A, y, chunk=3)
    at = sampler.start(given)
    x, levels = at.x.clone(), sampler.levels(given.prior)
    sampler.step(given, at, 2)
    level = levels[2]
    z, z_corrector = (given.noise(x, 2, draw, slice(0, 4)) for draw in (1, 2))
    G2 = level.sigma**2 - level.previous**2
    x = x + G2 * score(x, level.sigma) + math.sqrt(G2) * z
    s = score(x, level.sigma)
    norms = torch.stack([z_corrector.flatten(1).norm(dim=1), s.flatten(1).norm(dim=1)])
    if whole_chunks:
        norms = torch.cat([norms[:, :3].mean(1, keepdim=True).expand(2, 3), norms[:, 3:]], 1)
    e = (2 * (0.16 * norms[0] / norms[1]) ** 2).view(-1, 1, 1, 1)
    x = x + e * s + (2 * e).sqrt() * z_corrector
    D = Coupling()
    r = A.adjoint(y) - A.normal(x) - 0.5 * D.adjoint(D(x))
    x = x + r.square().sum() / (r * (A.normal(r) + 0.5 * D.adjoint(D(r)))).sum() * r
    torch.testing.assert_close(at.x, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(at.v, shrink(D(x), 0.6), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(at.w, D(x) - at.v, rtol=1e-9, atol=1e-9)


def test_final_consistency_step():
    A = PROJECTORS["joseph-parallel"]()
    y = A(torch.rand(2, *A.domain))
    given, x = problem(prior(), A, y), torch.rand(2, *A.domain)
    sampler = DiffusionMBIR()
    got = sampler.finish(given, x)
    assert float((y - A(got)).norm()) < 0.8 * float((y - A(x)).norm())
    torch.testing.assert_close(got, x + A.adjoint(y - A(x)) / A.normal(torch.ones_like(x)), rtol=1e-4, atol=1e-5)
    assert DiffusionMBIR(consistent=False).finish(given, x) is x


def test_pixels_that_nothing_sees_stay():
    matrix = torch.zeros(2, 9, dtype=torch.float64)
    matrix[0, 0] = matrix[1, 4] = 2.0
    A = Dense(matrix, (1, 3, 3))
    x = randn(1, 1, 3, 3)
    got = DiffusionMBIR().finish(problem(prior(), A, torch.ones(1, 2, dtype=torch.float64)), x)
    exact = x.clone()
    exact[..., 0, 0] = exact[..., 1, 1] = 0.5
    torch.testing.assert_close(got, exact)


def test_settings_of_the_paper():
    sampler = DiffusionMBIR.paper()
    assert (sampler.steps, sampler.weight, sampler.rho, sampler.norm, sampler.snr) == (2000, 0.04, 10.0, 1.0, 0.16)
    assert sampler.coupling.periodic
    assert sampler.whole_chunks
    assert sampler.truncated
    assert sampler.consistent
    mri = DiffusionMBIR.paper(weight=0.005, rho=0.01, consistent=False)
    assert (mri.weight, mri.rho, mri.consistent) == (0.005, 0.01, False)


def test_it_finds_what_was_measured():
    orthogonal = torch.linalg.qr(randn(9, 9)).Q
    A, x = Dense(3 * orthogonal, (1, 3, 3)), MEAN + TAU * randn(4, 1, 3, 3, seed=2)
    out = DiffusionMBIR(steps=60, consistent=False).reconstruct(prior(), A, A(x))
    assert float((out.estimate - x).norm()) < 0.1 * float((MEAN - x).norm())
    assert out.network_calls == 120


def test_divergent_rho_is_refused_before_the_start():
    A, y, _ = slices(3)
    model = prior()
    with pytest.raises(ValueError, match=r"rho must be at most 0\.05 of"):
        DiffusionMBIR(steps=4, rho=0.06).reconstruct(model, A, y)
    assert model.network.calls == 0
    norm = float(torch.linalg.matrix_norm(A.matrix, 2))
    with pytest.warns(UserWarning, match="likely to diverge"):
        DiffusionMBIR(steps=2, rho=0.2 * norm**2, norm=1.0).reconstruct(model, A, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DiffusionMBIR(steps=2, rho=0.02 * norm**2, norm=1.0).reconstruct(model, A, y)


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_units_of_the_measurement_do_not_matter(scale):
    A, y, _ = slices(4)
    other = Dense(scale * A.matrix, A.domain, Gaussian(0.1 * scale))
    one, two = (DiffusionMBIR(steps=6).reconstruct(prior(), op, m).estimate for op, m in ((A, y), (other, scale * y)))
    torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-8)


def test_norms_of_chunks_depend_on_them_and_only_then():
    A, y, _ = slices(4)
    one, two = (DiffusionMBIR(steps=4, whole_chunks=True).reconstruct(prior(), A, y, run=Run(chunk=n)).estimate for n in (2, 4))
    assert not torch.allclose(one, two, atol=1e-6)


def test_a_state_knows_its_chunks_where_they_matter(tmp_path):
    A, y, _ = slices(4)
    path = tmp_path / "state.pt"
    sampler = DiffusionMBIR(steps=4, whole_chunks=True)
    sampler.reconstruct(prior(), A, y, run=Run(chunk=2, state=path, every=0))
    with pytest.raises(ValueError, match="another reconstruction"):
        sampler.reconstruct(prior(), A, y, run=Run(chunk=4, state=path, every=0))


def test_progress_of_each_process_reaches_its_total(together):
    A, y, _ = slices(4)
    threads, ends = together(2), []

    def work(fabric):
        seen = []
        DiffusionMBIR(steps=3).reconstruct(
            prior(), A, y, progress=lambda *now: seen.append(now), run=Run(chunk=2, fabric=fabric)
        )
        ends.append(seen[-1])

    threads.run(work)
    assert ends == [(12, 12)] * 2


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"steps": 1}, "steps must be at least 2"),
        ({"sigma_min": 2.0, "sigma_max": 1.0}, "0 < sigma_min < sigma_max"),
        ({"snr": 0.0}, "snr must be positive"),
        ({"weight": -1.0}, "must not be negative"),
        ({"rho": 0.0}, "rho must be positive with a weight"),
    ],
)
def test_wrong_settings(wrong, match):
    with pytest.raises(ValueError, match=match):
        DiffusionMBIR(**wrong)
