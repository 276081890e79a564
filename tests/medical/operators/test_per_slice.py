"""SliceOperators: every slice by its own operator, all of them or a part."""

import pytest
import torch

from inverse.operators.noise import Gaussian, Noiseless
from medical.coils.simulation import simulated_maps
from medical.operators import Sense
from medical.operators.per_slice import SliceOperators
from medical.samplers.run import Run
from medical.samplers.stack import Stack

SHAPE = (8, 6)


def members(count=4, coils=3):
    maps = simulated_maps(SHAPE, coils)[0]
    masks = [torch.rand(SHAPE, generator=torch.Generator().manual_seed(n)) > 0.4 for n in range(count)]
    return [Sense(maps * torch.exp(torch.tensor(0.3j * n)), mask) for n, mask in enumerate(masks)]


def images(count=4, seed=0):
    return torch.randn(count, 1, *SHAPE, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def test_every_slice_by_its_own():
    each = members()
    A, x = SliceOperators(each), images()
    y = A(x)
    assert y.shape == (4, 3, *SHAPE)
    for n, one in enumerate(each):
        assert torch.equal(y[n : n + 1], one(x[n : n + 1]))
        assert torch.equal(A.adjoint(y)[n : n + 1], one.adjoint(y[n : n + 1]))
    assert A.adjointness() < 1e-6
    assert A.norm() == pytest.approx(max(one.norm() for one in each))


def test_parts_and_their_noise():
    A, x = SliceOperators(members(), noise=Gaussian(0.5)), images()
    part = A.part(slice(1, 3))
    assert len(part) == 2
    assert part.noise == Gaussian(0.5)
    assert torch.equal(part(x[1:3]), A(x)[1:3])


def test_prox_is_that_of_each_slice():
    each = members()
    A, x, y = SliceOperators(each), images(), images(seed=1).expand(4, 3, *SHAPE)
    found = A.prox(x, y, 0.3, iterations=40)
    for n, one in enumerate(each):
        torch.testing.assert_close(
            found[n : n + 1], one.prox(x[n : n + 1], y[n : n + 1], 0.3, iterations=40), rtol=0, atol=1e-5
        )


def test_a_stack_takes_it_in_chunks():
    A, x = SliceOperators(members()), images()
    y = A(x)
    whole, chunks = (Stack.checked(A, y, Run(chunk=n)) for n in (8, 3))
    assert whole.shape == (4, 1, *SHAPE)
    assert torch.equal(whole.normal(x), chunks.normal(x))
    assert torch.equal(chunks.normal(x), A.adjoint(A(x)))
    assert chunks.norm_squared == pytest.approx(A.part(slice(2, 3)).norm() ** 2, rel=0.02)


def test_an_isometry_of_all():
    maps = torch.ones(1, *SHAPE, dtype=torch.complex64)
    assert SliceOperators([Sense(maps)] * 2).isometry == 1.0
    assert SliceOperators([Sense(maps), members(1)[0]][:1]).isometry == 1.0
    assert SliceOperators(members()).isometry is None
    assert isinstance(SliceOperators(members()).noise, Noiseless)


def test_bad_input():
    with pytest.raises(ValueError, match="operators must hold at least one operator, got none"):
        SliceOperators([])
    with pytest.raises(TypeError, match="operators must be linear, got 3 for slice 1"):
        SliceOperators([*members(1), 3])
    with pytest.raises(
        ValueError, match=r"must all take \(1, 8, 6\) to \(3, 8, 6\), got \(1, 8, 6\) to \(2, 8, 6\) for slice 1"
    ):
        SliceOperators([*members(1), *members(1, coils=2)])
    A = SliceOperators(members())
    with pytest.raises(ValueError, match=r"x must have 4 slices, one for each operator, got 3; part\(slices\)"):
        A(images(3))
    with pytest.raises(ValueError, match="y must have 4 slices"):
        A.adjoint(A(images())[:2])
