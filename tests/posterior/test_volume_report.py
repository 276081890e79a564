"""The report of a volume: what it shows, in which place and colour, what it says, and what a browser makes of it."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from inverse.operators import Identity
from inverse.operators.noise import Gaussian
from inverse.reconstruction import Reconstruction
from medical.files import Scan
from medical.operators import Sense
from posterior import volume_report
from posterior.volume_report import VolumeCase
from posterior.volume_scores import Fit, Scores, fit, scores
from posterior.volume_words import fit_words
from tests.posterior import volumes as known
from tests.posterior.chromium import needs_chromium, open_page

SHAPE = (5, 12, 14)  # z, y, x


def scan(values, signs=(-1, -1, 1)):
    return Scan(data=values.float().contiguous(), affine=torch.from_numpy(known.affine(signs)))


def body(signs=(-1, -1, 1)):
    """40 HU in the middle of air, with a bone in front, in slices of LPS turned to the axes of ``signs``."""
    x = torch.full(SHAPE, -1000.0)
    x[:, 2:-2, 3:-3] = 40
    x[:, 3:5, 6:8] = 240
    x[-1, 2:4, 2:4] = 1000  # at the head, in front, on the patient's right
    return scan(x.flip([2 - n for n in range(3) if signs[n] != (-1, -1, 1)[n]]), signs)


def measured(sigma=0.0, error=0.0, *, complex_data=False):
    """An image measured as it is, and an estimate that differs by ``error``."""
    x = torch.rand(5, 1, 12, 14, generator=torch.Generator().manual_seed(0))
    A = Identity((1, 12, 14), noise=Gaussian(sigma))
    if complex_data:
        x = x.to(torch.complex64)
        A = Sense.single((12, 14), torch.rand(12, 14, generator=torch.Generator().manual_seed(1)) > 0.5, noise=Gaussian(sigma))
    y = A.measure(x, seed=2)
    if complex_data:
        y = y * A.mask
    return Reconstruction(
        estimate=x + error, samples=(x + error)[None], measurement=y, operator=A, network_calls=20, seconds=1.0
    )


def record(**more):
    found = Scores(
        psnr=dict.fromkeys(("axial", "coronal", "sagittal"), 31.5), ssim=dict.fromkeys(("axial", "coronal", "sagittal"))
    )
    plain = {
        "source": "scan.nii.gz", "output": "x.nii.gz", "modality": "CT", "method": "dds", "model": "ct-slices", "samples": 3,
        "network_calls": 60, "seconds": 12.0, "shape": SHAPE, "voxel": (4.0, 2.5, 2.0), "settings": {"steps": 20},
        "measurement": {"views": 8, "photons": 1e5, "angles": "0 to 157 degrees"}, "data_range": "1",
        "scores": {"FBP": found, "dds": found},
    }  # fmt: skip
    return {**plain, **more}


def case(signs=(-1, -1, 1), **more):
    truth = body(signs)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    parts = {
        "truth": truth, "baseline": scan(truth.data + 100 * noise, signs), "estimate": scan(truth.data + 10 * noise, signs),
        "std": scan(10 + 0 * noise, signs), "measured": scan(truth.data - 5, signs), "filled": scan(5 + 10 * noise, signs),
    }  # fmt: skip
    given = {"modality": "CT", "volumes": parts, "fit": fit(measured(0.1)), "record": record(), "baseline": ("FBP", 0.5)}
    return VolumeCase(**(given | {"share": 0.25} | more))


def embedded(page, key, number=0):
    figure = re.search(rf'data-key="{key}".*?</figure>', page, re.S)[0]
    return np.array(Image.open(io.BytesIO(base64.b64decode(re.findall(r'base64,([^"]+)"', figure)[number]))))


def text(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))


@pytest.mark.parametrize("signs", [(-1, -1, 1), (1, 1, 1), (1, -1, -1)])
def test_pictures_are_as_radiologists_see_them(signs):
    page = volume_report.html(case(signs))
    z, y, x = case(signs).at
    assert (z, y, x) == case().at
    truth = body().data
    for number, (low, high) in enumerate(((-160, 240), (-1000, 1000))):
        grey = np.rint(255 * ((truth - low) / (high - low)).clamp(0, 1).numpy()).astype(np.uint8)
        np.testing.assert_array_equal(embedded(page, "truth-axial", number), grey[z])
        np.testing.assert_array_equal(embedded(page, "truth-coronal", number), grey[::-1, y])  # the head above
        np.testing.assert_array_equal(embedded(page, "truth-sagittal", number), grey[::-1, :, x])
    assert f"Axial slice {z}" in text(page)
    assert embedded(page, "std-axial").shape == (12, 14, 3)  # in colours


def test_every_volume_in_every_plane():
    keys = re.findall(r'data-key="([^"]+)"', volume_report.html(case()))
    names = ("truth", "baseline", "estimate", "error", "std", "measured", "filled")
    assert keys == [f"{name}-{plane}" for plane in ("axial", "coronal", "sagittal") for name in names]
    alone = {"estimate": body()}
    few = volume_report.html(case(volumes=alone, record=record(scores={}), baseline=None))
    assert re.findall(r'data-key="([^"]+)"', few) == ["estimate-axial", "estimate-coronal", "estimate-sagittal"]
    assert "The truth is not known" in few
    assert "How sure it is" not in few


def test_voxels_have_their_shape():
    page = volume_report.html(case())
    assert re.findall(r"aspect-ratio: ([\d.]+) / ([\d.]+)", page)[0] == ("28", "30")  # 14 x 2 mm by 12 x 2.5 mm
    assert ("28", "20") in re.findall(r"aspect-ratio: ([\d.]+) / ([\d.]+)", page)


def test_words():
    page = text(volume_report.html(case()))
    assert (
        "A volume of 14 × 12 × 5 voxels from 8 views over 0 to 157 degrees, 100000 photons a ray, reconstructed by dds" in page
    )
    assert "The measurement fixes about 25.0 % of what makes up this volume." in page
    assert "must not be taken for a finding" in page
    assert "Between 3 samples a voxel varies by 10 HU on average. The spread is not calibrated" in page
    assert "PSNR in dB, data range 1." in page
    assert "31.50" in page


def test_fit_and_its_words():
    good = fit(measured(0.1))
    assert good.numbers == 5 * 12 * 14
    assert good.chi_square == pytest.approx(1, abs=5 * good.expected)
    assert good.expected == pytest.approx((2 / 840) ** 0.5)
    assert "as close as the noise allows" in fit_words(good)
    bad = fit(measured(0.1, error=0.2))
    assert bad.chi_square == pytest.approx(5, rel=0.15)  # 1 + (0.2 / 0.1)^2
    assert "contradicts some of what was measured" in fit_words(bad)
    exact = fit(measured(error=0.1))
    assert exact.chi_square is None
    assert exact.relative == pytest.approx(0.1 / float(measured().measurement.square().mean().sqrt()), rel=1e-4)
    assert "states no noise" in fit_words(exact)
    follows = Fit(relative=0.1, chi_square=0.5, numbers=1000, standardised=torch.zeros(1))
    assert "follows some of it" in fit_words(follows)


def test_zeros_of_kspace_do_not_count():
    out = measured(0.05, complex_data=True)
    found = fit(out)
    assert found.numbers == 2 * 5 * int(out.operator.mask.sum())
    assert found.chi_square == pytest.approx(1, abs=5 * found.expected)
    assert bool((found.standardised[out.measurement == 0] == 0).all())


def test_scores_by_plane():
    truth = torch.rand(12, 13, 14, generator=torch.Generator().manual_seed(0))
    volume = truth.clone()
    volume[3] += 0.1
    found = scores(volume, truth)
    assert found.psnr["axial"] == pytest.approx(20, abs=1e-4)  # the one slice that differs
    assert found.psnr["coronal"] == pytest.approx(10 * np.log10(12 / 0.01), abs=1e-4)  # one row of twelve in each
    assert all(0.5 < value < 1 for value in found.ssim.values())
    assert scores(truth[:5], truth[:5]).psnr["axial"] is None
    assert scores(truth[:5], truth[:5]).ssim == {"axial": pytest.approx(1), "coronal": None, "sagittal": None}


def test_profile_and_histogram():
    page = volume_report.html(case())
    lines = {name: re.search(rf'class="line-{name}" points="([^"]+)"', page)[1].split() for name in ("truth", "estimate")}
    assert len(lines["truth"]) == len(lines["estimate"]) == 14
    assert 'class="band"' in page
    widths = [float(w) for w in re.findall(r'class="bar-of"[^>]+height="([\d.]+)"', page)]
    assert len(widths) == 41
    assert np.argmax(widths) == pytest.approx(20, abs=4)  # residuals are about zero
    none = volume_report.html(case(fit=fit(measured())))
    assert 'class="bar-of"' not in none


def test_nothing_comes_from_elsewhere_and_text_is_escaped():
    evil = "<script>alert('x')</script>"
    page = volume_report.html(case(record=record(source=evil, model=evil, settings={evil: evil})))
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert re.findall(r"https?:|//|@import|url\(", re.sub(r"base64,[^\"]+", "", page)) == []
    assert "default-src 'none'" in page


def test_the_size_of_a_large_report():
    shape = (48, 256, 256)
    noise = 60 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    names = ("truth", "baseline", "estimate", "std", "measured", "filled")
    parts = {name: scan(noise + 20 * n) for n, name in enumerate(names)}
    assert len(volume_report.html(case(volumes=parts))) < 3 * 2**20  # of noise, which no PNG compresses


def test_bad_input():
    with pytest.raises(ValueError, match="modality must be CT or MR, got 'PET'"):
        case(modality="PET")
    with pytest.raises(ValueError, match="volumes must hold the estimate, got truth"):
        case(volumes={"truth": body()})
    with pytest.raises(ValueError, match="volumes must have one shape"):
        case(volumes={"estimate": body(), "truth": scan(torch.zeros(2, 3, 4))})


@needs_chromium
@pytest.mark.parametrize("width", [1200, 500])
def test_in_chromium(tmp_path, width):
    then = """
      const box = (i) => i.getBoundingClientRect();
      const shown = () => [...document.querySelectorAll(".slices img")].filter((i) => box(i).width > 0).length;
      const before = shown();
      document.getElementById("window-1").click();
      const src = document.querySelector('[data-key="truth-axial"] .of-window-1');
      document.getElementById("theme").click();
      seen.result = {before, after: shown(), wide: box(src).width > 50, ratio: box(src).width / box(src).height,
        theme: document.documentElement.dataset.theme};
    """
    seen = open_page(volume_report.html(case()), tmp_path, width=width, then=then)
    assert seen.errors == []
    assert seen.log == ""
    assert seen.requests == []
    assert seen.overflow == 0
    assert seen.result["before"] == seen.result["after"] == 7 * 3  # one window at a time
    assert seen.result["wide"]
    assert seen.result["ratio"] == pytest.approx(28 / 30, abs=0.02)
    assert seen.result["theme"] == "dark"
