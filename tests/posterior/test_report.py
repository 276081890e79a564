"""The report: what it says, that it says it of any input, and how a browser shows it."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from inverse import Reconstruction
from inverse.calibration import FLOOR, Calibration
from inverse.metrics import psnr
from inverse.operators import Downsample, Gaussian, Identity, Inpaint, Sample
from inverse.operators.base import Operator
from posterior import report
from posterior.cases import Baseline, Case, views
from tests.posterior.chromium import needs_chromium, open_page


class Square(Operator):
    """y = x^2: not linear."""

    def _apply_operator(self, x: torch.Tensor) -> torch.Tensor:
        return x**2


def photo(seed: int = 0, size: int = 24) -> torch.Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed))


def case(A: Operator | None = None, *, error: float = 0.01, samples: int = 3, truth: bool = True, **given) -> Case:
    A = A or Inpaint.random((3, 24, 24), 0.75, seed=0, noise=Gaussian(0.02))
    x = photo()
    estimate = x + error
    out = Reconstruction(
        estimate=estimate,
        samples=estimate + 0.01 * torch.randn((samples, *x.shape), generator=torch.Generator().manual_seed(1)),
        measurement=A.measure(x, seed=2),
        operator=A,
        network_calls=70,
        seconds=1.25,
        settings={"sampler": "RedDiff", "seed": 4},
    )
    defaults = {"name": "Inpainting", "summary": "Three in four are missing.", "truth": x if truth else None}
    return Case(reconstruction=out, **(defaults | given))


def page(*cases: Case, **given) -> str:
    return report.html(cases or [case()], **({"title": "Title", "lead": "Lead."} | given))


def embedded(page: str, key: str) -> np.ndarray:
    figure = re.search(rf'data-key="{key}".*?base64,([^"]+)"', page, re.S)
    return np.array(Image.open(io.BytesIO(base64.b64decode(figure[1]))))


def text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))


# numbers


def test_scores_clip_the_image():
    A = Identity()
    out = case(A, error=0.0)
    bright = Case(
        name="", summary="", truth=torch.ones(1, 3, 24, 24),
        reconstruction=Reconstruction(**(vars(out.reconstruction) | {"estimate": torch.full((1, 3, 24, 24), 1.5)})),
    )  # fmt: skip
    assert bright.scores.psnr == float("inf")
    assert bright.scores.seconds == 1.25


def test_scores_of_every_method():
    x = photo()
    c = case(baselines=(Baseline(name="Mean", image=torch.full_like(x, 0.5), seconds=0.5),))
    assert c.scores.psnr == pytest.approx(float(psnr((x + 0.01).clamp(0, 1), x)))
    assert c.baseline_scores["Mean"].psnr == pytest.approx(float(psnr(torch.full_like(x, 0.5), x)))
    assert c.baseline_scores["Mean"].seconds == 0.5
    assert c.input_scores.psnr == pytest.approx(float(psnr(c.reconstruction.measurement.clamp(0, 1), x)))
    assert case(Downsample.area(2)).input_scores.psnr is None  # another size
    assert case(truth=False).scores.psnr is None


def test_the_table_marks_the_best_and_the_gain():
    x = photo()
    good, bad = Baseline(name="Good", image=x + 0.1, seconds=0.5), Baseline(name="Bad", image=x + 0.2, seconds=0.5)
    c = case(baselines=(bad, good))
    gain = c.scores.psnr - c.baseline_scores["Good"].psnr
    table = re.search(r"<table>.*?</table>", page(c), re.S)[0]
    assert f'<span class="gain up">{gain:+.2f} dB</span>' in table
    assert re.findall(r'<tr class="best">.*?<td class="name">(\w+)</td>', table) == ["Posterior"]
    worse = case(error=0.3, baselines=(bad, good))
    table = re.search(r"<table>.*?</table>", page(worse), re.S)[0]
    assert '<span class="gain">-' in table
    assert re.findall(r'<tr class="best">.*?<td class="name">(\w+)</td>', table) == ["Good"]


def test_words_on_what_was_measured():
    words = text(page(case()))
    share = case().reconstruction.measured_share()
    assert share == pytest.approx(0.25 / 1.0064, abs=1e-4)  # a quarter is seen, with rho = (0.02 / 0.25)^2
    assert f"The measurement fixes about {100 * share:.1f} % of what makes up this picture" in words

    def verdict(sigma: float, error: float) -> str:
        return text(page(case(Identity(noise=Gaussian(sigma)), error=error)))

    # the residual is the noise less the error
    assert "times the noise: as close as the noise allows" in verdict(0.02, 0.005)
    assert "so the estimate contradicts what was measured" in verdict(0.02, 0.1)
    follows = case(Identity(noise=Gaussian(0.02)))
    follows = Reconstruction(**(vars(follows.reconstruction) | {"estimate": follows.reconstruction.measurement + 0.01}))
    told = text(page(Case(name="", summary="", reconstruction=follows)))
    assert "by 0.50 times the noise: less than the noise, so the estimate follows some of it" in told
    assert "differs from it by 2.55 of 255 grey levels" in text(page(case(Identity())))  # 0.01 * 255


def test_words_on_the_error_of_each_part():
    # an error of 0.01 everywhere: 2.55 grey levels at a quarter of the pixels and at three quarters
    words = text(page(case(Inpaint.random((3, 24, 24), 0.75, seed=0))))
    assert f"is {2.55 * 0.25**0.5:.1f} grey levels (RMS, of 255) in the measured part and {2.55 * 0.75**0.5:.1f} in" in words


def calibrated(samples: int = 3, *, check: bool = True) -> Calibration:
    """Factors 1 and 4, as if nine tenths of the values of two photographs were within a deviation and a half."""
    known = Calibration(task="t", sampler="s", images=24, samples=samples, levels=(0.68, 0.95), factors=(1.0, 4.0))
    return known.checked([torch.tensor([1.5] * 9 + [8.0])] * 2) if check else known


def held(c: Case, factor: float) -> float:
    off = (c.reconstruction.estimate - c.truth).abs() / (c.reconstruction.std + FLOOR)
    return 100 * float((off <= factor).double().mean())


def test_words_on_certainty():
    c = case(samples=3)
    words = text(page(c))
    assert "This spread is not calibrated for this task: read it as where the picture is unsure, not as how much." in words
    raw = held(c, 4.3027)  # Student's t, two degrees of freedom
    assert f"Of this picture’s values, 95 % intervals straight from the samples hold {raw:.1f} %." in words
    assert 90 < raw < 100
    assert "How sure it is" not in text(page(case(samples=1)))


def test_words_on_calibrated_certainty():
    c = case(samples=3, calibration=calibrated())
    words = text(page(c))
    assert "not calibrated" not in words
    reach = 255 * 4 * float((c.reconstruction.std + FLOOR).mean())
    assert f"Calibrated, the 95 % interval of a value reaches ±{reach:.1f} grey levels on average." in words
    assert "On 2 held-out photographs such intervals held 90.0 % of the values; straight from the samples, 90.0 %." in words
    assert f"straight from the samples hold {held(c, 4.3027):.1f} %, calibrated ones {held(c, 4.0):.1f} %." in words
    blind = text(page(case(samples=3, calibration=calibrated(check=False), truth=False)))
    assert "How often it holds on other photographs was not measured." in blind
    assert "Of this picture’s" not in blind


def test_words_on_certainty_leave_seen_pixels_out():
    c = case(Inpaint.random((3, 24, 24), 0.75, seed=0), samples=3)
    unseen = ~c.reconstruction.operator.mask.expand(3, 24, 24)
    off = ((c.reconstruction.estimate - c.truth).abs() / (c.reconstruction.std + FLOOR))[:, unseen]
    share = 100 * float((off <= 4.3027).double().mean())
    assert f"Of this picture’s missing values, 95 % intervals straight from the samples hold {share:.1f} %." in text(page(c))


def test_the_reliability_diagram():
    def curve(found: str, name: str) -> list[list[float]]:
        drawn = re.search(rf'<polyline class="{name}" points="([^"]+)"', found)
        return [[float(n) for n in point.split(",")] for point in drawn[1].split()]

    found = page(c := case(samples=3, calibration=calibrated()))
    other = curve(found, "held-out")
    assert len(other) == 19
    # 200 pixels a side, upwards; 0.9 of the values are within 1.5 deviations, which is Student's t for a level of 0.728
    assert [point[0] for point in other[:2]] == [10.0, 20.0]
    assert [point[1] for point in other] == [200.0] * 14 + [20.0] * 5
    own = curve(found, "own")
    assert own[-1] == pytest.approx([190.0, 2 * (100 - held(c, 4.3027))], abs=0.06)
    points = re.findall(r'<circle class="calibrated" cx="([^"]+)" cy="([^"]+)"', found)
    assert points == [("136.0", "200.0"), ("190.0", "20.0")]
    uncalibrated = page(case(samples=3))
    assert 'class="own"' in uncalibrated
    assert 'class="held-out"' not in uncalibrated
    assert "<svg" not in page(case(samples=3, truth=False))
    assert "<svg" not in page(case(samples=0))


# pictures


def test_views_in_order():
    c = case(baselines=(Baseline(name="Mean", image=photo(1), seconds=0.5),))
    keys = ["measurement", "baseline-1", "estimate", "truth", "std", "error", "measured", "filled"]
    assert [view.key for view in views(c)] == keys
    assert [view.key for view in views(case(calibration=calibrated()))][3:6] == ["std", "reach", "error"]
    assert [view.key for view in views(case(Square(), samples=0, truth=False))] == ["measurement", "estimate"]
    vector = case(Sample(Inpaint.random((3, 24, 24), 0.5).mask), samples=0, truth=False)
    assert [view.key for view in views(vector)] == ["estimate", "measured", "filled"]
    stand_in = case(Sample(Inpaint.random((3, 24, 24), 0.5).mask), samples=0, truth=False, shown=photo(3))
    assert views(stand_in)[0].key == "measurement"


def test_the_error_has_the_scale_of_the_deviation():
    shown = {view.key: view for view in views(case())}
    assert shown["error"].white == shown["std"].white
    alone = {view.key: view for view in views(case(samples=0, error=0.04))}["error"]
    assert alone.white == pytest.approx(0.04, abs=1e-3)


def test_the_interval_is_the_deviation_made_wider():
    c = case(calibration=calibrated())
    shown = {view.key: view for view in views(c)}
    reach = (4 * (c.reconstruction.std[0] + FLOOR)).square().mean(0).sqrt()
    assert shown["reach"].white == pytest.approx(float(np.quantile(reach.numpy(), 0.995)))
    scaled = np.rint((reach / shown["reach"].white).clamp(0, 1).numpy() * 255)
    assert np.abs(shown["reach"].pixels - scaled).max() <= 1  # rounding
    assert shown["reach"].title == "95 % interval"


def test_pictures_are_embedded_as_they_are():
    found = page(c := case())
    np.testing.assert_array_equal(embedded(found, "truth"), np.rint(c.truth[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8))
    assert embedded(found, "std").shape == (24, 24, 3)  # in colours


# the page


def test_nothing_comes_from_elsewhere():
    found = page(case(), case(Downsample.area(2)))
    assert re.findall(r"https?:|//|@import|url\(", re.sub(r"base64,[^\"]+", "", found)) == []
    assert "default-src 'none'" in found
    assert all(value.startswith("data:") for value in re.findall(r'(?:src|href)="([^#][^"]*)"', found))


def test_text_is_escaped():
    evil = "<script>alert('x')</script> & \"quotes\""
    c = case(name=evil, summary=evil, credit=evil, baselines=(Baseline(name=evil, image=photo(1), seconds=1),))
    c.reconstruction.settings[evil] = evil
    found = page(c, title=evil, lead=evil, facts={evil: evil})
    assert "<script>alert" not in found
    assert found.count("<script>") == 1
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;quotes&quot;" in found


def test_every_picture_has_its_own_alt_text():
    alts = re.findall(r'alt="([^"]+)"', page(case()))
    assert len(alts) == len(set(alts)) == 7
    assert alts[0] == "Inpainting, Input: as measured, 24 × 24"


def test_settings_and_facts_are_told():
    found = text(page(case(), facts={"versions": "posterior 9.9"}))
    assert "seed4" in found
    assert "network calls70" in found
    assert "versionsposterior 9.9" in found
    assert "Gaussian(sigma=0.02)" in found


def test_write(tmp_path):
    path = report.write(tmp_path / "r.html", [case()], title="T", lead="L")
    assert path.read_text(encoding="utf-8") == report.html([case()], title="T", lead="L")
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_bad_input():
    with pytest.raises(ValueError, match="cases must hold at least one case, got none"):
        report.html([], title="", lead="")
    with pytest.raises(ValueError, match=r"truth must have the shape of the estimate, \(1, 3, 24, 24\), got \(1, 3, 12, 12\)"):
        Case(name="", summary="", reconstruction=case().reconstruction, truth=photo(size=12))
    with pytest.raises(ValueError, match="calibration must be of 3 samples, as the reconstruction, got 4"):
        case(samples=3, calibration=calibrated(4))
    two = Reconstruction(**(vars(case().reconstruction) | {"estimate": photo().expand(2, -1, -1, -1)}))
    with pytest.raises(ValueError, match=r"must be of one image, \(1, C, H, W\), got an estimate of shape \(2, 3, 24, 24\)"):
        Case(name="", summary="", reconstruction=two)


# in a browser


@needs_chromium
@pytest.mark.parametrize("width", [1200, 500])
def test_in_chromium(tmp_path, width):
    x = photo()
    cases = (
        case(baselines=(Baseline(name="Mean", image=torch.full_like(x, 0.5), seconds=0.5),)),
        case(Downsample.area(2), name="Super-resolution", calibration=calibrated()),
        case(Sample(Inpaint.random((3, 24, 24), 0.5).mask), name="Samples", samples=0, truth=False),
    )
    seen = open_page(page(*cases), tmp_path, width=width)
    assert seen.errors == []
    assert seen.log == ""
    assert seen.requests == []
    assert len(seen.images) == 8 + 8 + 3 + 2 * 3  # the panels, and two on each stage
    assert {image["width"] for image in seen.images} == {24, 12}
    assert all(image["shown"] > 50 for image in seen.images)
    assert seen.overflow == 0
    assert seen.stages == [["Input", "Posterior"], ["Input", "Posterior"], ["Posterior", "Posterior"]]


@needs_chromium
def test_choices_and_slider_in_chromium(tmp_path):
    then = """
      const one = document.querySelector(".case"), stage = one.querySelector(".stage");
      one.querySelector('[data-key="truth"] button').click();
      const left = one.querySelector(".choose-left");
      left.value = "std"; left.dispatchEvent(new Event("change"));
      const cut = one.querySelector(".cut");
      cut.value = 25; cut.dispatchEvent(new Event("input"));
      document.getElementById("theme").click();
      seen.result = {tags: stage.innerText.split("\\n").filter(Boolean), cut: stage.style.getPropertyValue("--cut"),
        same: stage.querySelector(".right").src === one.querySelector('[data-key="truth"] img').src,
        theme: document.documentElement.dataset.theme};
    """
    seen = open_page(page(), tmp_path, then=then)
    assert seen.errors == []
    assert seen.result == {"tags": ["Uncertainty", "Truth"], "cut": "25%", "same": True, "theme": "dark"}
