"""DiffusionBlend: the triples, what the network is shown, and DDS where triples do not matter."""

from dataclasses import fields

import pytest
import torch
from torch import nn

from medical.samplers import DDS, DiffusionBlend, Run
from medical.samplers.diffusion_blend import adjacent, spread
from prior.denoiser import Denoiser
from prior.networks.adm import ADMConfig, ADMUNet
from prior.schedules import Linear
from tests.medical.classical.problems import Dense, randn
from tests.medical.samplers.problems import SCHEDULE, complex_slices, prior, problem, slices


@pytest.mark.parametrize("count", range(1, 31))
def test_every_slice_has_its_place(count):
    for groups in (*(adjacent(count, offset) for offset in range(3)), spread(count)):
        triple, place = groups.owners(count)
        assert groups.members[triple, place].tolist() == list(range(count))
        if count >= 3:
            assert bool((groups.members.diff(dim=1) == groups.spacing).all())
            assert len(groups.members) <= count // 3 + 4


@pytest.mark.parametrize(
    ("offset", "members"),
    [
        (0, [[5, 6, 7], [0, 1, 2], [3, 4, 5]]),
        (1, [[0, 1, 2], [5, 6, 7], [1, 2, 3], [4, 5, 6]]),
        (2, [[0, 1, 2], [2, 3, 4], [5, 6, 7]]),
    ],
)
def test_neighbours_of_eight(offset, members):
    assert adjacent(8, offset).members.tolist() == members


def test_ends_come_from_the_first_and_the_last_three():
    triple, _ = adjacent(8, 1).owners(8)
    assert triple.tolist() == [0, 2, 2, 2, 3, 3, 3, 1]


def test_blocks_of_nine():
    nine = [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    assert spread(9).members.tolist() == nine
    assert spread(18).members.tolist() == [*nine, *([n + 9 for n in group] for group in nine)]
    eleven = spread(11)
    assert eleven.members.tolist() == [*([n + 2 for n in group] for group in nine), *nine]
    assert eleven.owners(11)[0].tolist() == [3, 4, 5, 3, 4, 5, 3, 4, 5, 1, 2]
    assert spread(8) is not None
    assert spread(8).spacing == 1


def pairs(**settings):
    """DDS and DiffusionBlend with the same settings."""
    blend = DiffusionBlend(clip=False, **settings)
    return DDS(**{f.name: getattr(blend, f.name) for f in fields(DDS)}), blend


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 14])
def test_it_is_dds_where_pixels_are_independent(count):
    A, y, _ = slices(count)
    one, two = (s.reconstruct(prior(), A, y, run=Run(chunk=2)).estimate for s in pairs(steps=6, weight=1e-3, rho=0.02))
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


def test_real_and_imaginary_part_pass_apart():
    A, y, _ = complex_slices(7)
    one, two = (s.reconstruct(prior(), A, y).estimate for s in pairs(steps=6))
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


class Watching(nn.Module):
    """Its noise is the mean over the three slices, times the class."""

    in_channels = 3

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, t, condition):
        self.seen.append((x, condition))
        return x.mean(1, keepdim=True).expand_as(x) * condition.view(-1, 1, 1, 1)


@pytest.mark.parametrize("count", [3, 8, 9, 11, 20])
def test_noise_of_a_slice_is_that_of_its_triple(count):
    A, y, _ = slices(count)
    network = Watching()
    given, sampler = problem(Denoiser(network, SCHEDULE, data_range=(0.0, 1.0)), A, y), DiffusionBlend(clip=False)
    x = randn(count, 1, 3, 3, seed=7)
    for index in range(4):
        x0, eps = sampler.denoised(given, x, 0.5, index)
        groups = sampler.groups(given, index)
        assert groups.spacing == (3 if index % 2 and count >= 9 else 1)
        triple, _ = groups.owners(count)
        exact = groups.spacing * x[groups.members[triple], 0].mean(1)[:, None]
        torch.testing.assert_close(eps, exact)
        torch.testing.assert_close(x0, x - 0.5 * exact)
        shown, spacing = network.seen[-1]
        assert torch.equal(shown, x[groups.members, 0])
        assert spacing.tolist() == [groups.spacing] * len(shown)
    assert given.prior.calls == 4


def test_offsets_are_drawn_from_the_seed():
    given, other = (problem(prior(), *slices(12)[:2], seed=seed) for seed in (0, 1))
    sampler = DiffusionBlend()
    first = [int(sampler.groups(given, index).members.min(0).values[0]) for index in range(0, 60, 2)]
    assert all(start == 0 for start in first), "the first three are always there"
    offsets = [{int(g[0]) % 3 for g in sampler.groups(given, index).members[-3:]} for index in range(0, 60, 2)]
    assert set().union(*offsets) == {0, 1, 2}
    assert offsets != [{int(g[0]) % 3 for g in sampler.groups(other, index).members[-3:]} for index in range(0, 60, 2)]


def test_clip():
    A, y, _ = slices(4)
    given, x = problem(prior(), A, y), 5 * randn(4, 1, 3, 3)
    clipped, eps = DiffusionBlend().denoised(given, x, 0.1, 0)
    plain, same = DiffusionBlend(clip=False).denoised(given, x, 0.1, 0)
    assert torch.equal(clipped, plain.clamp(0, 1))
    assert torch.equal(eps, same)
    assert not torch.equal(clipped, plain)


def test_the_data_step_is_kept():
    A, y, _ = slices(4, noise=0)
    x = DiffusionBlend(steps=8, weight=0.0, rho=0.0, inner=40).reconstruct(prior(), A, y).estimate
    torch.testing.assert_close(A(x), y, rtol=1e-6, atol=1e-6)


def test_a_network_with_classes():
    config = ADMConfig(
        in_channels=3,
        out_channels=6,
        model_channels=32,
        channel_mult=(1,),
        num_res_blocks=1,
        attention_ds=(),
        head_channels=32,
        num_classes=4,
    )
    torch.manual_seed(0)
    network = ADMUNet(config)
    nn.init.normal_(network.out[-1].weight, std=0.1)
    model = Denoiser(network, Linear(), learned_variance=True)
    A = Dense(randn(10, 64), (1, 8, 8))
    y = randn(10, 10, seed=1).float()
    calls = []
    network.register_forward_pre_hook(lambda m, args: calls.append(int(args[2][0])))
    out = DiffusionBlend(steps=4).reconstruct(model, A, y, run=Run(chunk=32))
    assert out.estimate.shape == (10, 1, 8, 8)
    assert torch.isfinite(out.estimate).all()
    assert calls == [1, 3, 1, 3]
    assert out.network_calls == 4


def test_several_channels_are_refused():
    with pytest.raises(ValueError, match="one channel"):
        DiffusionBlend().reconstruct(prior(), Dense(randn(3, 8), (2, 2, 2)), randn(2, 3))
