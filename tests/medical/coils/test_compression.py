"""Compression is exact for rank-deficient coils; whitening makes the covariance the identity."""

from __future__ import annotations

import pytest
import torch

from medical.coils import compress, mix_coils, noise_covariance, whitening_matrix
from tests.medical.coils.phantom import kspace_of, smooth_maps, textured

SHAPE = (16, 13)


def mixed(coils: int, sources: int, seed: int = 5) -> torch.Tensor:
    return textured((coils, sources), seed=seed)


def test_exact_for_rank_deficient_data():
    S = mix_coils(mixed(8, 3), smooth_maps(3, SHAPE, seed=0))
    y = kspace_of(S, textured(SHAPE, seed=1))
    C = compress(y, 3)
    assert C.energy == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(C.matrix @ C.matrix.mH, torch.eye(3, dtype=C.matrix.dtype), atol=1e-12, rtol=0)
    torch.testing.assert_close(C.expand(C(y)), y, atol=1e-10, rtol=0)
    # the compressed maps fit the compressed data
    torch.testing.assert_close(kspace_of(C(S), textured(SHAPE, seed=1)), C(y), atol=1e-10, rtol=0)
    assert C(y[None]).shape == (1, 3, *SHAPE)


def test_energy_is_what_the_virtual_coils_hold():
    y = textured((6, *SHAPE), seed=2) * torch.arange(1, 7)[:, None, None]
    total, previous = y.norm() ** 2, 0.0
    for coils in range(1, 7):
        C = compress(y.to(torch.complex64), coils)
        assert C.matrix.shape == (coils, 6)
        assert C.energy == pytest.approx(float(C(y).norm() ** 2 / total), rel=1e-6)
        assert C.energy > previous
        previous = C.energy
    powers = compress(y, 6)(y).flatten(1).norm(dim=1)
    assert bool((powers.diff() <= 0).all())
    assert previous == pytest.approx(1)


def test_phase_of_the_rows_is_fixed():
    y = textured((6, *SHAPE), seed=2)
    C = compress(y, 4)
    largest = C.matrix.gather(1, C.matrix.abs().argmax(1, keepdim=True))
    assert float(largest.imag.abs().max()) < 1e-14
    assert float(largest.real.min()) > 0
    torch.testing.assert_close(compress(y * 1j, 4).matrix, C.matrix, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("shape", "dim"), [((4, 5, 6), -3), ((2, 4, 5, 6), -3), ((2, 4, 3, 5, 6), -4), ((2, 4, 9), -2), ((4, 9), 0)]
)
def test_mix_coils(shape, dim):
    x, matrix = textured(shape, seed=3), mixed(3, 4)
    moved = x.movedim(dim, 0)
    wanted = torch.stack([sum(matrix[n, c] * moved[c] for c in range(4)) for n in range(3)]).movedim(0, dim)
    torch.testing.assert_close(mix_coils(matrix, x, dim), wanted)
    assert mix_coils(matrix, x.to(torch.complex64), dim).dtype == torch.complex64


def test_mixing_errors():
    x = textured((4, 5, 6), seed=3)
    with pytest.raises(ValueError, match="4 coils of the matrix along axis -2"):
        mix_coils(mixed(3, 4), x, -2)
    with pytest.raises(ValueError, match="along axis -4"):
        mix_coils(mixed(3, 4), x, -4)
    with pytest.raises(TypeError, match="x must be complex"):
        mix_coils(mixed(3, 4), x.real)
    with pytest.raises(ValueError, match=r"matrix must have shape \(n, C\)"):
        mix_coils(mixed(3, 4)[0], x)


def test_compression_errors():
    y = textured((4, *SHAPE), seed=2)
    with pytest.raises(ValueError, match=r"coils must lie in 1 \.\.\. 4"):
        compress(y, 5)
    with pytest.raises(TypeError, match="must be complex"):
        compress(y.real, 2)
    with pytest.raises(ValueError, match="zeros alone"):
        compress(0 * y, 2)
    with pytest.raises(ValueError, match="must be finite"):
        compress(y * float("nan"), 2)


def test_whitened_covariance_is_the_identity():
    noise = mixed(6, 6) @ textured((6, 500), seed=8) * torch.logspace(-6, 2, 6)[:, None]
    Psi = noise_covariance(noise)
    torch.testing.assert_close(Psi, noise @ noise.mH / 500)
    W = whitening_matrix(Psi)
    identity = torch.eye(6, dtype=W.dtype)
    torch.testing.assert_close(W @ Psi @ W.mH, identity, atol=1e-10, rtol=0)
    torch.testing.assert_close(noise_covariance(mix_coils(W, noise, -2)), identity, atol=1e-10, rtol=0)
    assert float(W.triu(1).abs().max()) == 0


def test_known_variances():
    noise = 3 * textured((2, 40000), seed=9)  # variance 9, real and imaginary part together
    W = whitening_matrix(noise_covariance(noise))
    torch.testing.assert_close(W, torch.eye(2, dtype=W.dtype) / 3, atol=0.01, rtol=0)


def test_whitening_errors():
    noise = textured((4, 100), seed=8)
    with pytest.raises(ValueError, match=r"no noise in coils \[2\]"):
        whitening_matrix(noise_covariance(noise * torch.tensor([1, 1, 0, 1])[:, None]))
    with pytest.raises(ValueError, match="combination of others"):
        whitening_matrix(noise_covariance(torch.cat([noise, noise[:1] + noise[1:2]])))
    with pytest.raises(ValueError, match="as many samples as coils"):
        noise_covariance(noise.mT)
    with pytest.raises(TypeError, match=r"complex of shape \(C, N\)"):
        noise_covariance(noise.real)
    with pytest.raises(ValueError, match="must be finite"):
        noise_covariance(noise * float("inf"))
    with pytest.raises(ValueError, match=r"shape \(C, C\)"):
        whitening_matrix(noise)
    with pytest.raises(ValueError, match="Hermitian"):
        whitening_matrix(mixed(4, 4))
