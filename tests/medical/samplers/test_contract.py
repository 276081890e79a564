"""What every sampler of volumes keeps: the same bytes for the same seed, however the work is divided or interrupted."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inverse.operators.noise import Gaussian, Noiseless
from medical.samplers import Run
from tests.medical.samplers.problems import PROBLEMS, SAMPLERS, prior

EVERY = pytest.mark.parametrize("name", SAMPLERS)


@EVERY
@pytest.mark.parametrize("kind", PROBLEMS)
def test_result_and_progress(name, kind):
    A, y, x = PROBLEMS[kind]()
    model, seen = prior(), []
    out = SAMPLERS[name](2).reconstruct(model, A, y, progress=lambda *now: seen.append(now), run=Run(chunk=3))
    assert out.estimate.shape == x.shape
    assert out.estimate.dtype == x.dtype
    assert out.samples.shape == (2, *x.shape)
    assert torch.isfinite(torch.view_as_real(out.samples + 0j)).all()
    assert torch.equal(out.estimate, out.samples.mean(0))
    assert not torch.equal(out.samples[0], out.samples[1])
    assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1)), "every chunk is counted, up to the total"
    assert {total for _, total in seen} == {len(seen)}
    assert out.settings["sampler"] == type(SAMPLERS[name](1)).__name__
    assert all(isinstance(v, int | float | str | bool | type(None)) for v in out.settings.values())
    assert out.residual.shape == y.shape
    assert out.std.shape == x.shape


@EVERY
@pytest.mark.parametrize("kind", PROBLEMS)
def test_chunks_do_not_matter(name, kind):
    A, y, _ = PROBLEMS[kind]()
    one, other = (SAMPLERS[name](1).reconstruct(prior(), A, y, seed=5, run=Run(chunk=n)).estimate for n in (1, 3))
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@EVERY
def test_seed(name):
    A, y, _ = PROBLEMS["slices"]()
    first, again, other = (SAMPLERS[name](1).reconstruct(prior(), A, y, seed=s).estimate for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)


class Killed(Exception):
    pass


@EVERY
@pytest.mark.parametrize("kind", ["slices", "volumes"])
@pytest.mark.parametrize("share", [0.05, 0.4, 0.8])
def test_resume_after_a_kill_gives_the_same_bytes(name, kind, share, tmp_path):
    A, y, _ = PROBLEMS[kind]()
    sampler, run = SAMPLERS[name](2), Run(chunk=3, state=tmp_path / "state.pt", every=0)
    whole = sampler.reconstruct(prior(), A, y, run=Run(chunk=3))

    def kill(done, total):
        if done > share * total:
            raise Killed

    with pytest.raises(Killed):
        sampler.reconstruct(prior(), A, y, progress=kill, run=run)
    began_at = []
    resumed = sampler.reconstruct(prior(), A, y, progress=lambda *now: began_at.append(now), run=run)
    assert torch.equal(resumed.samples, whole.samples)
    assert resumed.network_calls == whole.network_calls
    done, total = began_at[0]
    assert began_at[-1] == (total, total)
    assert len(began_at) == total - done + 1
    assert share < 0.1 or done > 1, "work that was done is not done again"


@EVERY
@pytest.mark.parametrize("kind", PROBLEMS)
def test_processes_do_not_matter(name, kind, together):
    A, y, _ = PROBLEMS[kind]()
    alone = SAMPLERS[name](1).reconstruct(prior(), A, y, run=Run(chunk=1)).estimate
    threads, counts = together(2), []

    def work(fabric):
        mine = []
        out = SAMPLERS[name](1).reconstruct(
            prior(), A, y, progress=lambda *now: mine.append(now), run=Run(chunk=1, fabric=fabric)
        )
        counts.append(mine[-1][0] == mine[-1][1] == len(mine))
        return out.estimate

    for estimate in threads.run(work):
        assert torch.equal(estimate, alone)
    assert all(counts), "the progress reaches its total on every process"


@EVERY
def test_more_processes_than_chunks(name, together):
    A, y, _ = PROBLEMS["slices"]()
    threads = together(3)
    run = Run(chunk=4)
    alone = SAMPLERS[name](1).reconstruct(prior(), A, y, run=run).estimate
    results = threads.run(lambda fabric: SAMPLERS[name](1).reconstruct(prior(), A, y, run=replace(run, fabric=fabric)).estimate)
    assert all(torch.equal(estimate, alone) for estimate in results)


@EVERY
def test_single_precision_stays_single(name):
    A, y, _ = PROBLEMS["slices"]()
    assert SAMPLERS[name](1).reconstruct(prior(), A, y.float()).estimate.dtype == torch.float32


@EVERY
def test_one_slice(name):
    A, y, x = PROBLEMS["slices"]()
    out = SAMPLERS[name](1).reconstruct(prior(), A, y[:1])
    assert out.estimate.shape == x[:1].shape
    assert torch.isfinite(out.estimate).all()


@EVERY
def test_bad_input_is_refused_before_the_network_is_asked(name):
    A, y, _ = PROBLEMS["slices"]()
    model, sampler = prior(), SAMPLERS[name](1)
    broken = y.clone()
    broken[0, 0] = float("nan")
    with pytest.raises(ValueError, match="y must be finite, got 1 value"):
        sampler.reconstruct(model, A, broken)
    with pytest.raises(ValueError, match="y must have shape"):
        sampler.reconstruct(model, A, y[:, :-1])
    B, v, _ = PROBLEMS["volumes"]()
    with pytest.raises(ValueError, match="one measurement"):
        sampler.reconstruct(model, B, torch.cat([v, v]))
    with pytest.raises(TypeError, match="linear operator"):
        sampler.reconstruct(model, torch.nn.Identity(), y)
    with pytest.raises(ValueError, match="samples must be at least 1"):
        SAMPLERS[name](0)
    assert model.network.calls == 0


@EVERY
def test_without_noise(name):
    A, y, _ = PROBLEMS["slices"]()
    out = SAMPLERS[name](1).reconstruct(prior(), A.with_noise(Noiseless()), y)
    assert torch.isfinite(out.estimate).all()
    assert out.residual_ratio is None


def test_a_state_belongs_to_one_reconstruction(tmp_path: Path):
    A, y, _ = PROBLEMS["slices"]()
    run = Run(state=tmp_path / "state.pt", every=0)
    sampler = SAMPLERS["tpdm-random"](1)
    sampler.reconstruct(prior(), A, y, run=run)
    again = replace(sampler, auxiliary=prior(std=0.2))
    assert again.reconstruct(prior(), A, y, run=run).network_calls == 12
    changed = {
        "seed": lambda: sampler.reconstruct(prior(), A, y, seed=1, run=run),
        "measurement": lambda: sampler.reconstruct(prior(), A, y + 1, run=run),
        "settings": lambda: replace(sampler, weight=0.2).reconstruct(prior(), A, y, run=run),
        "noise": lambda: sampler.reconstruct(prior(), A.with_noise(Gaussian(0.2)), y, run=run),
        "operator": lambda: sampler.reconstruct(prior(), _other(A), y, run=run),
    }
    for begin in changed.values():
        with pytest.raises(ValueError, match="state of another reconstruction"):
            begin()


def _other(A):
    return type(A)(2 * A.matrix, A.domain, A.noise)
