"""Compressed sensing: blocks, Walsh-Hadamard and Fourier, against their definitions."""

import math

import pytest
import torch

from inverse.operators import BlockGaussian, Fourier, Hadamard, frequencies
from inverse.operators.hadamard import sequency, walsh_hadamard
from tests.inverse.operators.examples import crooked


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hadamard_matrix(n):
    """``(-1)^popcount(i & j)``."""
    return torch.tensor([[(-1.0) ** (i & j).bit_count() for j in range(n)] for i in range(n)], dtype=torch.float64)


def test_every_block_is_measured_alone():
    rows, x = crooked(5, 9), rand(2, 2, 6, 9)
    y = BlockGaussian(rows).double()(x)
    assert y.shape == (2, 10, 2, 3)
    for c in range(2):
        for i in range(2):
            for j in range(3):
                block = x[:, c, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3].flatten(1)
                torch.testing.assert_close(y[:, 5 * c : 5 * c + 5, i, j], block @ rows.mT, atol=1e-7, rtol=0)


def test_random_rows_are_orthonormal():
    A = BlockGaussian.random(0.25, 8, seed=1)
    assert A.rows.shape == (16, 64)
    torch.testing.assert_close(A.rows @ A.rows.mT, torch.eye(16), atol=1e-6, rtol=0)
    assert A.isometry == pytest.approx(1, abs=1e-7)
    assert torch.equal(A.rows, BlockGaussian.random(0.25, 8, seed=1).rows)
    assert not torch.equal(A.rows, BlockGaussian.random(0.25, 8, seed=2).rows)
    for shape in ((1, 8, 16), (3, 16, 8)):  # any image that the block divides
        y = rand(2, *A.output_shape(shape)).float()
        torch.testing.assert_close(A(A.pinv(y)), y, atol=1e-6, rtol=0)


def test_rows_follow_the_uniform_distribution():
    """The energy of each entry is m / n on average: no entry of the patterns is preferred."""
    energy = torch.stack([BlockGaussian.random(0.25, 4, seed=s).rows.square().sum(0) for s in range(200)]).mean(0)
    torch.testing.assert_close(energy, torch.full((16,), 0.25), atol=0.05, rtol=0)


def test_scaled_rows_have_a_closed_form_too():
    A = BlockGaussian(3 * BlockGaussian.random(0.5, 4).rows)
    assert A.isometry == pytest.approx(9, rel=1e-6)
    assert A.norm() == pytest.approx(3, rel=1e-6)


def test_float32_rows_in_float64_are_not_taken_for_orthonormal():
    A = BlockGaussian.random(0.5, 4)
    assert A.isometry is not None
    A.double()
    assert A.isometry is None  # the rounding of the rows is 1e-8
    y = rand(1, *A.output_shape((1, 8, 4)))
    torch.testing.assert_close(A(A.pinv(y)), y, atol=1e-13, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (4, 4), (2, 16), (8, 64)])
def test_hadamard_is_its_matrix(shape):
    n = math.prod(shape)
    x = rand(2, 3, *shape)
    wanted = x.flatten(2) @ hadamard_matrix(n) / math.sqrt(n)
    torch.testing.assert_close(walsh_hadamard(x.flatten(2)), wanted, atol=1e-13, rtol=0)
    torch.testing.assert_close(walsh_hadamard(wanted), x.flatten(2), atol=1e-13, rtol=0)
    kept = torch.randperm(n, generator=torch.Generator().manual_seed(0))[: max(1, n // 3)]
    y = Hadamard(kept, (3, *shape))(x)
    torch.testing.assert_close(y, wanted[..., kept].mT, atol=1e-13, rtol=0)  # the channel is the last axis


@pytest.mark.parametrize("n", [1, 2, 8, 32])
def test_sequency_counts_changes_of_sign(n):
    changes = (hadamard_matrix(n).diff(dim=1) != 0).sum(1)
    assert sequency(n).tolist() == changes.tolist()


def test_lowest_patterns_hold_smooth_images():
    A = Hadamard.lowest((1, 8, 4), 1 / 32)
    assert A.kept.tolist() == [0]
    flat = torch.full((1, 1, 8, 4), 0.3)
    torch.testing.assert_close(A.pinv(A(flat)), flat, atol=1e-7, rtol=0)
    A = Hadamard.lowest((1, 8, 8), 1 / 4)
    blocks = rand(1, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(A.pinv(A(blocks)), blocks, atol=1e-14, rtol=0)


def test_random_hadamard():
    A = Hadamard.random((2, 8, 8), 0.3, seed=4)
    assert len(A.kept) == 19
    assert torch.equal(A.kept, Hadamard.random((2, 8, 8), 0.3, seed=4).kept)
    assert not torch.equal(A.kept, Hadamard.random((2, 8, 8), 0.3, seed=5).kept)


SIZES = [(1, 1), (1, 6), (5, 1), (2, 2), (4, 4), (4, 5), (5, 4), (5, 7), (6, 8)]


@pytest.mark.parametrize("size", SIZES)
def test_real_fourier_coefficients(size):
    """Of each pair f and -f: sqrt(2) Re X at one of the two, sqrt(2) Im X at the other; X itself where they are one."""
    x = rand(1, 1, *size)
    A = Fourier(torch.ones(size), (1, *size))
    c, X = A.transform(x).view(*size), torch.fft.fft2(x[0, 0], norm="ortho")
    p, q = size
    for i in range(p):
        for j in range(q):
            a, b, f = c[i, j], c[-i % p, -j % q], X[i, j]
            if (i, j) == (-i % p, -j % q):
                assert float(a) == pytest.approx(float(f.real), abs=1e-13)
            else:
                wanted = sorted([2 * float(f.real) ** 2, 2 * float(f.imag) ** 2])
                assert sorted([float(a) ** 2, float(b) ** 2]) == pytest.approx(wanted, abs=1e-13)
    torch.testing.assert_close(A.inverse(c.view(1, 1, -1)), x, atol=1e-14, rtol=0)
    assert float(A(x).norm()) == pytest.approx(float(x.norm()), rel=1e-13)


def test_the_real_part_is_at_the_smaller_frequency():
    x = rand(1, 1, 5, 6)
    c, X = Fourier(torch.ones(5, 6), (1, 5, 6)).transform(x).view(5, 6), torch.fft.fft2(x[0, 0], norm="ortho")
    for i, j in ((1, 0), (1, 2), (4, 1), (2, 3)):
        assert float(c[i, j]) == pytest.approx(2**0.5 * float(X[i, j].real), abs=1e-13)
        assert float(c[-i % 5, -j % 6]) == pytest.approx(2**0.5 * float(X[i, j].imag), abs=1e-13)


@pytest.mark.parametrize("size", SIZES[3:])
def test_what_fourier_measures_is_the_masked_image(size):
    x = rand(2, 3, *size)
    A = Fourier.random((3, *size), 0.5, seed=2)
    wanted = torch.fft.ifft2(torch.fft.fft2(x) * A.mask)
    assert float(wanted.imag.abs().max()) < 1e-15
    torch.testing.assert_close(A.pinv(A(x)), wanted.real, atol=1e-14, rtol=0)


def test_a_frequency_brings_its_mirror_image():
    mask = torch.zeros(4, 6)
    mask[1, 2] = 1
    A = Fourier(mask, (2, 4, 6))
    assert A.mask.nonzero().tolist() == [[1, 2], [3, 4]]
    assert A.codomain == (2, 2)


def test_random_frequencies():
    for size in ((9, 9), (8, 10), (1, 16)):
        n = size[0] * size[1]
        for ratio in (0.2, 0.5, 1.0):
            mask = frequencies.random_frequencies(size, ratio, decay=2, seed=1)
            assert int(ratio * n) - 1 <= int(mask.sum()) <= int(ratio * n)
            assert torch.equal(mask, frequencies.mirrored(mask))
    small = frequencies.random_frequencies((9, 9), 0.4, radius=2.5, seed=1)
    assert bool(small[frequencies.low_frequencies((9, 9), 2.5)].all())
    assert not torch.equal(small, frequencies.random_frequencies((9, 9), 0.4, radius=2.5, seed=2))
    assert frequencies.random_frequencies((4, 4), 0.01).sum() >= 1


def test_decay_prefers_low_frequencies():
    r = frequencies.distance((64, 64))
    mean = [float(r[frequencies.random_frequencies((64, 64), 0.1, decay=decay, seed=0)].mean()) for decay in (0.0, 2.0, 6.0)]
    assert mean[0] == pytest.approx(float(r.mean()), rel=0.1)
    assert mean[0] > 1.3 * mean[1] > 1.3 * 1.3 * mean[2]


def test_low_frequencies():
    assert int(frequencies.low_frequencies((8, 8), 0.0).sum()) == 0
    assert frequencies.low_frequencies((8, 8), 1.0).nonzero().tolist() == [[0, 0]]
    assert int(frequencies.low_frequencies((8, 8), 1.1).sum()) == 5


def test_lines():
    rows = frequencies.cartesian_lines((8, 6), 0.5, radius=1.5, seed=0)
    assert torch.equal(rows, rows[:, :1].expand(8, 6))
    assert bool(rows[[0, 1, 7], 0].all())
    assert 3 <= int(rows[:, 0].sum()) <= 4
    one = frequencies.radial_lines((8, 6), 1)
    assert one.any(1).nonzero().flatten().tolist() == [0]
    assert bool(one[0].all())
    cross = frequencies.radial_lines((8, 6), 2)
    assert int(cross.sum()) == 8 + 6 - 1
    diagonals = frequencies.radial_lines((7, 7), 4)
    assert bool(diagonals.diagonal().all())
    assert torch.equal(diagonals, frequencies.mirrored(diagonals))


REFUSED = {
    "rows": (lambda: BlockGaussian(torch.ones(2, 5)), r"rows must be a real matrix \(m, b \* b\), got shape \(2, 5\)"),
    "rows zero": (lambda: BlockGaussian(torch.zeros(2, 4)), "rows must be finite and not all zero"),
    "ratio": (lambda: BlockGaussian.random(0.0), r"ratio must be a share of the measurements in \(0, 1\], got 0.0"),
    "block": (lambda: BlockGaussian.random(0.5, 0), "block must be a whole number of pixels, at least 1, got 0"),
    "block size": (lambda: BlockGaussian.random(0.5, 4)(torch.zeros(1, 1, 6, 4)), "multiples of 4, got 6 x 4; crop or pad"),
    "block channels": (
        lambda: BlockGaussian.random(0.5, 2).adjoint(torch.zeros(1, 3, 2, 2)),
        r"y must have a multiple of 2 channels, got shape \(3, 2, 2\)",
    ),
    "power": (lambda: Hadamard.random((1, 3, 4)), "power of two of pixels, got 3 x 4; crop or pad"),
    "sides": (lambda: Hadamard.lowest((1, 3, 4)), "sides that are powers of two, got 3"),
    "lowest": (lambda: Hadamard.lowest((4, 4)), r"shape must be \(C, H, W\), got \(4, 4\)"),
    "hadamard ratio": (lambda: Hadamard.random((1, 4, 4), 1.5), r"ratio must be .* in \(0, 1\], got 1.5"),
    "kept twice": (lambda: Hadamard(torch.tensor([1, 1]), (1, 2, 2)), "distinct numbers from 0 to 3, got 1 to 1"),
    "kept large": (lambda: Hadamard(torch.tensor([4]), (1, 2, 2)), "distinct numbers from 0 to 3, got 4 to 4"),
    "kept empty": (lambda: Hadamard(torch.zeros(0).long(), (1, 2, 2)), r"at least one whole number, got shape \(0,\)"),
    "kept shape": (lambda: Hadamard(torch.tensor([0]), (4, 4)), r"shape must be \(C, H, W\), got \(4, 4\)"),
    "mask": (lambda: Fourier(torch.ones(2, 3), (1, 3, 2)), r"mask must hold 0 and 1 in the shape \(3, 2\).*got \(2, 3\)"),
    "mask zero": (lambda: Fourier(torch.zeros(2, 2), (1, 2, 2)), "at least one whole number"),
    "fourier ratio": (lambda: Fourier.random((1, 4, 4), 0), r"ratio must be a share of the frequencies in \(0, 1\], got 0"),
    "decay": (lambda: Fourier.random((1, 4, 4), decay=-1.0), "decay must be finite and not negative, got -1.0"),
    "radius": (lambda: frequencies.low_frequencies((4, 4), -1.0), "radius must be finite and not negative, got -1.0"),
    "disc": (
        lambda: Fourier.random((1, 8, 8), 0.1, radius=3),
        "radius 3 alone keeps 25 of 64 frequencies",
    ),
    "lines": (lambda: Fourier.radial((1, 4, 4), 0), "lines must be a whole number, at least 1, got 0"),
    "two": (lambda: frequencies.radial_lines((1, 4, 4), 3), r"shape must be \(H, W\), got \(1, 4, 4\)"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
