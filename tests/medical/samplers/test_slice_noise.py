"""Noise that depends on seed, step, draw and slice alone."""

import pytest
import torch

from medical.samplers import SliceNoise

LIKE = torch.zeros(6, 2, 16, 16)


def test_a_slice_gets_the_same_in_any_chunk():
    noise = SliceNoise(3)
    whole = noise(LIKE, 4, 1, slice(0, 6))
    parts = [noise(LIKE[part], 4, 1, part) for part in (slice(0, 1), slice(1, 4), slice(4, 6))]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("other", [(4, 1, 1), (3, 5, 1), (3, 4, 2)], ids=["seed", "step", "draw"])
def test_everything_else_gets_other_numbers(other):
    seed, step, draw = other
    a, b = SliceNoise(3)(LIKE, 4, 1, slice(0, 6)), SliceNoise(seed)(LIKE, step, draw, slice(0, 6))
    correlation = float((a * b).mean())
    assert abs(correlation) < 4 / LIKE.numel() ** 0.5


def test_slices_are_independent_and_standard_normal():
    z = SliceNoise(0)(torch.zeros(64, 1, 32, 32), 0, 0, slice(0, 64)).double().flatten(1)
    n = z.numel()
    assert abs(float(z.mean())) < 4 / n**0.5
    assert abs(float(z.square().mean()) - 1) < 4 * (2 / n) ** 0.5
    neighbours = float((z[1:] * z[:-1]).mean())
    assert abs(neighbours) < 4 / n**0.5


def test_complex_parts_are_standard_normal_each():
    z = SliceNoise(1)(torch.zeros(8, 1, 32, 32, dtype=torch.complex128), 0, 0, slice(0, 8))
    n = z.numel()
    assert z.dtype == torch.complex128
    for part in (z.real, z.imag):
        assert abs(float(part.square().mean()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float((z.real * z.imag).mean())) < 4 / n**0.5


def test_numbers_of_a_step():
    noise = SliceNoise(9)
    u = torch.tensor([noise.number(step, 3) for step in range(2000)], dtype=torch.float64)
    assert bool((u >= 0).all() and (u < 1).all())
    assert abs(float(u.mean()) - 0.5) < 4 / (12 * 2000) ** 0.5
    assert noise.number(5, 3) == float(u[5]) != noise.number(5, 2)
    assert SliceNoise(8).number(5, 3) != float(u[5])
