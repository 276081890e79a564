"""ESPIRiT on coils whose maps are band-limited: there the eigenvectors are the maps, to rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medical.coils import combine, compress, eigenmaps, espirit
from medical.coils.signal_space import signal_space
from medical.operators.centred import centred_ifft
from tests.medical.coils.phantom import alignment, kspace_of, smooth_maps, textured, unit

EXACT = {"threshold": 1e-5}

# shape, coils, calibration, kernel; the last has fewer patches than entries in a patch
CASES = [
    ((32, 32), 4, 24, 6),
    ((31, 27), 5, 17, 5),
    ((20, 33), 4, 24, 6),
    ((13, 12, 15), 6, 12, 4),
    ((32, 30), 16, 12, 4),
]


def example(shape: tuple[int, ...], coils: int) -> tuple[Tensor, Tensor]:
    maps = smooth_maps(coils, shape, seed=0)
    return unit(maps), kspace_of(maps, textured(shape, seed=1))


@pytest.mark.parametrize(("shape", "coils", "calibration", "kernel"), CASES)
def test_recovers_band_limited_maps(shape, coils, calibration, kernel):
    S, y = example(shape, coils)
    found = espirit(y, calibration=calibration, kernel=kernel, **EXACT)
    assert found.maps.shape == (1, coils, *shape)
    assert found.eigenvalues.shape == (1, *shape)
    torch.testing.assert_close(found.eigenvalues, torch.ones_like(found.eigenvalues), atol=1e-9, rtol=0)
    # where a second eigenvalue comes close to 1, rounding mixes the vectors
    assert float(alignment(found.maps[0], S).min()) > 1 - 1e-6
    torch.testing.assert_close(found.maps.abs().square().sum(1), torch.ones(1, *shape, dtype=torch.float64), atol=1e-12, rtol=0)


def test_default_threshold_inside_an_object():
    shape = (64, 56)
    S, _ = example(shape, 8)
    h, w = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 56), indexing="ij")
    inside = (h / 0.75) ** 2 + (w / 0.65) ** 2 < 1
    image = inside * (1 + 0.5 * torch.sin(9 * h) * torch.cos(7 * w)) * torch.exp(1j * (h + w))
    found = espirit(kspace_of(S, image.to(S)).to(torch.complex64))
    assert found.maps.dtype == torch.complex64
    assert found.eigenvalues.dtype == torch.float32
    assert float(alignment(found.maps[0], S.to(torch.complex64))[inside].min()) > 0.999
    assert float(found.eigenvalues.min()) > -1e-5
    assert float(found.eigenvalues.max()) < 1 + 1e-5
    total = found.maps.abs().square().sum(1)
    torch.testing.assert_close(total, (found.eigenvalues > 0.8).float(), atol=1e-5, rtol=0)
    assert float(total[0, :6, :6].max()) == 0  # air


def test_phase_is_relative_to_coil_0_or_to_a_virtual_coil():
    _, y = example((32, 32), 4)
    found = espirit(y, **EXACT)
    assert float(found.maps[:, 0].imag.abs().max()) < 1e-12
    assert float(found.maps[:, 0].real.min()) >= 0
    weights = compress(y, 1).matrix[0]
    virtual = torch.einsum("c,mchw->mhw", weights, found.relative_to(weights).maps)
    assert float(virtual.imag.abs().max()) < 1e-12
    assert float(virtual.real.min()) >= 0
    torch.testing.assert_close(found.relative_to(weights).maps.abs(), found.maps.abs())
    with pytest.raises(ValueError, match=r"weights must have shape \(4,\)"):
        found.relative_to(weights[:2])


def test_scale_and_batching_of_rows_do_not_matter(monkeypatch):
    _, y = example((31, 27), 5)
    found = espirit(y, **EXACT)
    torch.testing.assert_close(espirit(1e-6 * y, **EXACT).maps, found.maps, atol=1e-7, rtol=0)
    monkeypatch.setattr(eigenmaps, "SLAB_BYTES", 1)
    torch.testing.assert_close(espirit(y, **EXACT).maps, found.maps, atol=1e-7, rtol=0)


def test_two_maps_where_the_object_folds_over():
    shape = (32, 30)
    first, second = smooth_maps(6, shape, seed=0), smooth_maps(6, shape, seed=7)
    y = kspace_of(first, textured(shape, seed=1)) + kspace_of(second, textured(shape, seed=2))
    images = centred_ifft(y)[None]

    def misfit(maps: int) -> float:
        S = espirit(y, maps=maps, **EXACT).maps
        explained = torch.einsum("mchw,bmhw->bchw", S, combine(images, S))
        return float((images - explained).norm() / images.norm())

    found = espirit(y, maps=3, **EXACT)
    torch.testing.assert_close(found.eigenvalues[:2], torch.ones(2, *shape, dtype=torch.float64), atol=1e-8, rtol=0)
    assert float(found.eigenvalues[2].median()) < 0.8
    assert misfit(1) > 0.1
    assert misfit(2) < 1e-6
    gram = torch.einsum("mchw,nchw->hwmn", found.maps[:2].conj(), found.maps[:2])
    torch.testing.assert_close(gram, torch.eye(2, dtype=gram.dtype).expand_as(gram), atol=1e-10, rtol=0)


def test_operator_is_the_mean_of_projections_on_the_kernels():
    """G(x) = k^-2 sum_r v_r(x) v_r(x)^H with v_r(x) the Fourier sum of kernel r."""
    shape, k = (9, 8), 3
    basis = signal_space(example(shape, 3)[1], k, 0.3)
    (G,) = eigenmaps._operators(eigenmaps._correlation(basis), shape)
    waves = [torch.exp(2j * torch.pi / n * torch.outer(torch.arange(n).double() - n // 2, torch.arange(k))) for n in shape]
    v = torch.einsum("rcij,hi,wj->hwrc", basis, *(wave.to(basis) for wave in waves))
    wanted = torch.einsum("hwrc,hwrd->hwcd", v, v.conj()) / k**2
    torch.testing.assert_close(G.view_as(wanted), wanted, atol=1e-12, rtol=0)


def test_signal_space_is_that_of_the_singular_value_decomposition():
    region = textured((3, 12, 11), seed=3)
    for kernel in (3, 6):  # more patches than entries, and fewer
        windows = region.unfold(1, kernel, 1).unfold(2, kernel, 1)
        B = windows.permute(0, 3, 4, 1, 2).reshape(3 * kernel**2, -1)
        U, s, _ = torch.linalg.svd(B, full_matrices=False)
        U = U[:, s > 0.4 * s[0]]
        V = signal_space(region, kernel, 0.4).flatten(1).mT
        assert V.shape == U.shape
        assert 0 < U.shape[1] < len(s)
        torch.testing.assert_close(V @ V.mH, U @ U.mH, atol=1e-11, rtol=0)


def test_threads_are_given_back():
    before = torch.get_num_threads()
    espirit(example((32, 32), 4)[1])
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": 1}, "kernel must be at least 2"),
        ({"threshold": 0.0}, "threshold must lie in"),
        ({"crop": 1.0}, "crop must lie in"),
        ({"maps": 5}, r"maps must lie in 1 \.\.\. 4"),
        ({"calibration": 5}, "at least kernel=6 lines wide"),
        ({"calibration": 0}, "must be at least 1"),
        ({"calibration": 7, "crop": 0.999}, "no pixel has an eigenvalue above crop=0.999"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        espirit(example((32, 32), 4)[1], **change)


def test_too_few_calibration_lines():
    _, y = example((32, 32), 4)
    y[:, :, :12] = 0
    y[:, :, 20:] = 0
    with pytest.raises(ValueError, match=r"24 lines a side must be fully sampled, and only the central \(32, 8\) are"):
        espirit(y)
    assert espirit(y, calibration=None, kernel=4, crop=0.5).maps.shape == (1, 4, 32, 32)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda y: y.abs(), TypeError, "must be complex"),
        (lambda y: y[0], ValueError, r"must have shape \(C, H, W\)"),
        (lambda y: y[None, None], ValueError, "no batch"),
        (lambda y: y[None], ValueError, r"pass kspace\[0\]"),
        (lambda y: 0 * y, ValueError, "zeros alone"),
        (lambda y: y.index_fill(2, torch.tensor(3), float("nan")), ValueError, "must be finite"),
    ],
)
def test_kspace_that_cannot_be_read(make, error, message):
    with pytest.raises(error, match=message):
        espirit(make(example((32, 32), 4)[1]))
