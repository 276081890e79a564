"""What a reconstruction says of itself, on paper and on disk."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from inverse import Reconstruction
from inverse.operators import (
    BlockGaussian,
    Blur,
    Decimate,
    Downsample,
    Fourier,
    Gaussian,
    Hadamard,
    Identity,
    Inpaint,
    Sample,
    VaryingBlur,
)
from inverse.operators.base import Operator
from inverse.operators.frequencies import low_frequencies
from inverse.panels import panels


class Square(Operator):
    """y = x^2: not linear."""

    def _apply_operator(self, x: torch.Tensor) -> torch.Tensor:
        return x**2


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def reconstruction(A: Operator, *, samples: int = 3, batch: int = 1, x: torch.Tensor | None = None) -> Reconstruction:
    x = random(batch, 3, 12, 8) if x is None else x
    draws = x + 0.1 * torch.randn((samples, *x.shape), generator=torch.Generator().manual_seed(1))
    return Reconstruction(
        estimate=x,
        samples=draws,
        measurement=A.measure(x, seed=2) + 0.01,
        operator=A,
        network_calls=70,
        seconds=1.5,
        settings={"sampler": "RedDiff", "seed": 4, "optimizer": "Implicit()", "odd": {1, 2}},
    )


def holes() -> Inpaint:
    return Inpaint.random((3, 12, 8), 0.75, seed=1)


# numbers


def test_residual_and_its_ratio():
    A = Identity(noise=Gaussian(0.02))
    out = reconstruction(A)
    out = Reconstruction(**(vars(out) | {"measurement": out.estimate + 0.04}))
    torch.testing.assert_close(out.residual, torch.full_like(out.estimate, 0.04), atol=1e-6, rtol=0)
    assert out.residual_ratio == pytest.approx(2.0, abs=1e-4)
    assert reconstruction(holes()).residual_ratio is None


def test_residual_ratio_of_complex_data():
    A = Identity(noise=Gaussian(0.1))
    out = reconstruction(A, x=torch.complex(random(1, 1, 40, 40), random(1, 1, 40, 40, seed=1)))
    assert Reconstruction(**(vars(out) | {"measurement": A.measure(out.estimate)})).residual_ratio == pytest.approx(1, rel=0.1)
    out = Reconstruction(**(vars(out) | {"measurement": out.estimate + (0.1 + 0.1j)}))
    assert out.residual_ratio == pytest.approx(1.0, abs=1e-5)


def test_std_needs_two_samples():
    assert reconstruction(Identity(), samples=1).std is None
    out = reconstruction(Identity(), samples=2)
    torch.testing.assert_close(out.std, (out.samples[0] - out.samples[1]).abs() / 2**0.5)


def test_split_of_a_mask_is_the_mask():
    A = holes()
    measured, filled = (out := reconstruction(A)).split()
    torch.testing.assert_close(measured, A.mask * out.estimate, atol=2e-6, rtol=0)
    torch.testing.assert_close(filled, ~A.mask * out.estimate, atol=2e-6, rtol=0)


def test_split_weighs_the_noise_against_the_prior():
    # rho = (0.05 / 0.25)^2 = 0.04, so the measurement fixes 1 / 1.04 of every pixel
    out = reconstruction(Identity(noise=Gaussian(0.05)))
    measured, filled = out.split()
    torch.testing.assert_close(measured, out.estimate / 1.04)
    torch.testing.assert_close(measured + filled, out.estimate)


def test_measured_share():
    assert reconstruction(holes()).measured_share() == pytest.approx(0.25, abs=1e-5)  # exact for a diagonal operator
    assert reconstruction(Identity(noise=Gaussian(0.05))).measured_share() == pytest.approx(1 / 1.04, abs=1e-5)
    wide = reconstruction(Downsample.area(4), x=random(1, 3, 64, 64), samples=0)
    assert wide.measured_share() == pytest.approx(1 / 16, rel=0.1)  # one probe of 12,288 entries: about 2.5 %
    assert wide.measured_share() == wide.measured_share()
    assert reconstruction(Square()).measured_share() is None


SHAPE = (1, 16, 16)
FEW = {
    "block": (BlockGaussian.random(0.25, 8, shape=SHAPE), 1 / 4),
    "hadamard": (Hadamard.random(SHAPE, 0.25), 1 / 4),
    "fourier": (Fourier(low_frequencies(SHAPE[1:], 3.0), SHAPE), 25 / 256),  # p^2 + q^2 < 9
    "decimate": (Decimate(torch.ones(1, 1), 2, shape=SHAPE), 1 / 4),
    "valid": (Blur(torch.eye(3), "valid", shape=SHAPE), 196 / 256),
    "varying": (VaryingBlur(torch.ones(1, 1, 1), torch.ones(1, 16, 16)), 1.0),
}


@pytest.mark.parametrize(("A", "share"), FEW.values(), ids=FEW)
def test_measured_share_of_few_measurements(A, share, tmp_path):
    out = reconstruction(A, x=random(1, *SHAPE))
    shares = [out.measured_share(seed=s) for s in range(30)]
    assert sum(shares) / 30 == pytest.approx(share, abs=0.02)  # 30 probes of 256 entries: a third of a percent to one
    assert (out.save(tmp_path / "out") / "arrays.npz").is_file()


def test_a_nonlinear_operator_has_no_split():
    with pytest.raises(TypeError, match="needs a linear operator, got Square"):
        reconstruction(Square()).split()


# pictures


def test_panels_and_their_ranges():
    shown = {panel.name: panel for panel in panels(reconstruction(holes()))[0]}
    assert list(shown) == ["measurement", "estimate", "std", "measured", "filled"]
    assert (shown["filled"].black, shown["filled"].white) == (0.0, 1.0)  # an image of its own: nothing negative
    assert shown["std"].values.shape == (1, 12, 8)
    x = random(1, 3, 8, 8)
    signed = {panel.name: panel for panel in panels(reconstruction(Downsample.area(2), x=x))[0]}["filled"]
    _, filled = reconstruction(Downsample.area(2), x=x).split()
    reach = float(np.quantile(filled.abs().numpy(), 0.98))
    assert signed.signed
    assert (signed.black, signed.white) == pytest.approx((-reach, reach))
    wanted = ((filled[0] / reach).clamp(-1, 1) + 1) / 2
    np.testing.assert_allclose(signed.pixels(), wanted.permute(1, 2, 0).numpy() * 255, atol=0.501)


def test_panels_leave_out_what_there_is_not():
    assert [p.name for p in panels(reconstruction(Square(), samples=0))[0]] == ["measurement", "estimate"]
    assert [p.name for p in panels(reconstruction(Sample(holes().mask), samples=1))[0]] == ["estimate", "measured", "filled"]


def test_draw():
    figure = reconstruction(holes()).draw()
    assert [ax.get_title() for ax in figure.axes[:5]] == [
        "measurement", "estimate", "standard deviation", "fixed by the measurement", "filled in by the prior",
    ]  # fmt: skip
    assert len(figure.axes) == 6  # the colour bar
    signed = reconstruction(Downsample.area(2), batch=2, samples=0).draw(1)
    assert signed.axes[-1].get_title() == "filled in by the prior (grey is zero)"


def test_draw_a_measurement_that_is_a_curve():
    out = reconstruction(Sample(holes().mask))
    ax = out.draw().axes[0]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), out.measurement[0].numpy())
    assert ax.get_title() == "measurement"


# files


def test_save_a_folder(tmp_path):
    out = reconstruction(holes())
    folder = out.save(tmp_path / "out")
    assert sorted(os.listdir(folder)) == sorted(
        ["arrays.npz", "estimate.png", "filled.png", "measured.png", "measurement.png", "reconstruction.json", "std.png"]
    )
    with np.load(folder / "arrays.npz") as arrays:
        assert {name: arrays[name].dtype for name in arrays} == dict.fromkeys(
            ("estimate", "samples", "measurement", "residual", "std", "measured", "filled"), np.float32
        )
        np.testing.assert_array_equal(arrays["estimate"], out.estimate.numpy())
        np.testing.assert_array_equal(arrays["samples"], out.samples.numpy())
        np.testing.assert_array_equal(arrays["measured"] + arrays["filled"], sum(part.numpy() for part in out.split()))
        np.testing.assert_array_equal(arrays["residual"], out.residual.numpy())
    picture = np.array(Image.open(folder / "estimate.png"))
    np.testing.assert_array_equal(picture, np.rint(out.estimate[0].permute(1, 2, 0).numpy() * 255))


def test_the_record(tmp_path):
    record = json.loads((reconstruction(holes()).save(tmp_path / "out") / "reconstruction.json").read_text())
    assert record["settings"] | {"odd": None} == {"sampler": "RedDiff", "seed": 4, "optimizer": "Implicit()", "odd": None}
    assert record["shapes"]["samples"] == [3, 1, 3, 12, 8]
    assert record["measured_share"] == pytest.approx(0.25, abs=1e-5)
    assert record["residual_ratio"] is None
    assert (record["network_calls"], record["seconds"], record["noise"]) == (70, 1.5, "Noiseless()")
    assert record["pictures"]["std.png"]["black"] == 0
    assert record["versions"]["torch"] == torch.__version__
    assert set(record["pictures"]) == {f"{name}.png" for name in ("measurement", "estimate", "std", "measured", "filled")}


def test_save_a_batch_and_a_nonlinear_operator(tmp_path):
    folder = reconstruction(Square(), samples=0, batch=2).save(tmp_path / "out")
    assert sorted(os.listdir(folder)) == [
        "arrays.npz", "estimate_000.png", "estimate_001.png", "measurement_000.png", "measurement_001.png",
        "reconstruction.json",
    ]  # fmt: skip
    with np.load(folder / "arrays.npz") as arrays:
        assert sorted(arrays) == ["estimate", "measurement", "residual", "samples"]


def test_save_the_estimate_alone(tmp_path):
    out = reconstruction(holes(), x=random(1, 1, 12, 8).expand(1, 3, 12, 8))
    assert out.save(tmp_path / "x.png") == tmp_path / "x.png"
    assert os.listdir(tmp_path) == ["x.png"]
    assert Image.open(tmp_path / "x.png").size == (8, 12)
    with pytest.raises(ValueError, match=r"folder for an estimate that is not one picture .* got \(2, 3, 12, 8\)"):
        reconstruction(Identity(), batch=2).save(tmp_path / "two.png")


def test_nothing_is_replaced_unasked(tmp_path):
    out = reconstruction(holes())
    out.save(tmp_path / "out")
    with pytest.raises(FileExistsError, match="is there already; overwrite=True replaces it"):
        out.save(tmp_path / "out")
    reconstruction(Square(), samples=0).save(tmp_path / "out", overwrite=True)
    assert sorted(os.listdir(tmp_path / "out")) == ["arrays.npz", "estimate.png", "measurement.png", "reconstruction.json"]
    (tmp_path / "empty").mkdir()
    out.save(tmp_path / "empty")
    assert sorted(os.listdir(tmp_path)) == ["empty", "out"]


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "only_copy.tex").write_text("x")
    with pytest.raises(FileExistsError, match="is not a saved reconstruction and will not be replaced"):
        reconstruction(holes()).save(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "only_copy.tex").read_text() == "x"


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    out = reconstruction(holes())
    out.save(tmp_path / "out")
    before = (tmp_path / "out" / "arrays.npz").read_bytes()
    replace = os.replace

    def full(source, target):
        if os.fspath(target) == os.fspath(tmp_path / "out") and not os.path.exists(target) and ".part" in os.fspath(source):
            monkeypatch.setattr(os, "replace", replace)
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        reconstruction(Square()).save(tmp_path / "out", overwrite=True)
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out" / "arrays.npz").read_bytes() == before


def test_paths_that_are_neither(tmp_path):
    with pytest.raises(ValueError, match=r"path must be a folder, or a \.png file for the estimate alone, got .*x\.jpg"):
        reconstruction(holes()).save(tmp_path / "x.jpg")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        reconstruction(holes()).save(tmp_path / "nowhere" / "out")
