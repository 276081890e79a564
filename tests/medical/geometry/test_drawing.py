"""Drawings are well-formed SVG, and what they show lies where the geometry says."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
import torch

from medical.geometry import ConeBeam, Detector, FanBeam, ParallelBeam, VectorBeam, Volume, uniform
from medical.geometry.drawing import draw

SVG = "{http://www.w3.org/2000/svg}"
FAN = FanBeam.uniform(24, Detector(33, 2.0, 5.0), 100.0, 60.0)
CONE = ConeBeam.helical(40, Detector((9, 33), 2.0), 100.0, 60.0, pitch=12.0, turns=2)
PICTURE, BLOCK = Volume((40, 40)), Volume((20, 40, 40))


def panel(svg, name="above"):
    group = next(g for g in ElementTree.fromstring(svg) if g.get("class") == name)
    scale, origin = (tuple(map(float, group.get(key).split())) for key in ("data-scale", "data-origin"))

    def world(x, y):
        return (float(x) - origin[0]) / scale[0], (origin[1] - float(y)) / scale[1]

    return group, world


def dots(svg, name="above"):
    group, world = panel(svg, name)
    found = [c for c in group.iter(f"{SVG}circle") if (c.get("class") or "").startswith("source")]
    found = [c for c in found if "first" in c.get("class")] + [c for c in found if "first" not in c.get("class")]
    return torch.tensor([world(c.get("cx"), c.get("cy")) for c in found], dtype=torch.float64)


def lines(svg, called, name="above"):
    group, world = panel(svg, name)
    found = [p for p in group.iter(f"{SVG}polyline") if p.get("class") == called]
    return [[world(*pair.split(",")) for pair in p.get("points").split()] for p in found]


def texts(svg):
    return " | ".join(t.text for t in ElementTree.fromstring(svg).iter(f"{SVG}text"))


def test_sources_of_a_fan_lie_on_their_circle():
    theta = torch.tensor(FAN.angles, dtype=torch.float64)
    wanted = 100.0 * torch.stack([theta.sin(), -theta.cos()], -1)
    torch.testing.assert_close(dots(draw(FAN, PICTURE)), wanted, rtol=0, atol=0.01)


def test_detector_and_rays_of_the_first_view():
    drawing = draw(FAN, PICTURE)
    (detector,) = lines(drawing, "detector")
    assert detector[0] == pytest.approx((-32.0 + 5.0, 60.0), abs=0.01)
    assert detector[-1] == pytest.approx((32.0 + 5.0, 60.0), abs=0.01)
    rays = sorted(lines(drawing, "ray"), key=lambda r: r[1][0])
    assert [r[0] for r in rays] == [pytest.approx((0.0, -100.0), abs=0.01)] * 2
    assert rays[0][1] == pytest.approx(detector[0])
    assert lines(drawing, "central") == [[pytest.approx((0, -100), abs=0.01), pytest.approx((0, 60), abs=0.01)]]


def test_a_curved_detector_is_an_arc_about_the_source():
    drawing = draw(FanBeam.uniform(8, Detector(33, 2.0, curved=True), 100.0, 60.0))
    for x, y in lines(drawing, "detector")[0]:
        assert math.hypot(x, y + 100.0) == pytest.approx(160.0, abs=0.02)


def test_the_fields_of_view_are_the_coverage():
    group, _ = panel(draw(FAN, PICTURE))
    scale = float(group.get("data-scale").split()[0])
    radii = [float(c.get("r")) / scale for c in group.iter(f"{SVG}circle") if c.get("class") == "field"]
    assert radii == pytest.approx(sorted(FAN.coverage()), abs=0.01)


def test_the_side_shows_helix_and_rows():
    drawing = draw(CONE, BLOCK)
    seen = dots(drawing, "side")
    torch.testing.assert_close(seen[:, 1], CONE.heights(), rtol=0, atol=0.01)
    along = -100.0 * torch.tensor([math.cos(a - CONE.angles[0]) for a in CONE.angles], dtype=torch.float64)
    torch.testing.assert_close(seen[:, 0], along, rtol=0, atol=0.01)
    (rows,) = lines(drawing, "detector", "side")
    assert rows[0] == pytest.approx((60.0, -12.0 - 8.0), abs=0.01)
    assert rows[-1] == pytest.approx((60.0, -12.0 + 8.0), abs=0.01)
    assert "pitch 12" in texts(drawing)
    assert "slice 0" in texts(drawing)


def test_parallel_rays_run_from_where_they_come_to_the_detector():
    drawing = draw(ParallelBeam.uniform(12, 21), PICTURE)
    for start, end in lines(drawing, "ray"):
        assert start[0] == pytest.approx(end[0], abs=0.01)
        assert start[1] > 20 > -20 > end[1]  # along (sin 0, -cos 0)
    assert lines(drawing, "detector")[0][0][0] == pytest.approx(-10.0, abs=0.01)


def test_a_vector_beam_draws_as_the_beam_it_comes_from():
    circle = ConeBeam(uniform(11, 0.3, 5.0), Detector((8, 12)), 100.0, 50.0)
    ours, theirs = draw(VectorBeam.of(circle), BLOCK), draw(circle, BLOCK)
    torch.testing.assert_close(dots(ours), dots(theirs), rtol=0, atol=0.02)
    torch.testing.assert_close(
        torch.tensor(lines(ours, "detector")), torch.tensor(lines(theirs, "detector")), rtol=0, atol=0.02
    )


def test_words_give_the_numbers():
    words = texts(draw(FAN, PICTURE))
    for part in ("DSO 100", "DOD 60", "pixel 0", "32", "magnification 1.6", "row 0 at the top", "24 views", "offset 5"):
        assert part in words
    assert "row 0 at the bottom" in texts(draw(CONE, BLOCK))


@pytest.mark.parametrize(
    "beam", [FAN[0], CONE[:1], ParallelBeam((0.2,), (1, 1)), VectorBeam.of(FAN)[3]], ids=lambda b: type(b).__name__
)
def test_one_view_is_enough(beam):
    assert len(dots(draw(beam))) == 1


def test_many_views_are_thinned():
    assert len(dots(draw(FanBeam.uniform(5000, 9, 100.0, 50.0)))) <= 360


def test_animation_ends_where_the_views_do():
    drawing = draw(FAN, PICTURE, animated=True)
    moving = [a for a in ElementTree.fromstring(drawing).iter(f"{SVG}animate") if a.get("attributeName") == "cx"]
    assert len(moving) == 1
    assert len(moving[0].get("values").split(";")) == 24
    assert "<animate" not in draw(FAN, PICTURE)


def test_written_where_asked(tmp_path):
    drawing = FAN.draw(tmp_path / "fan.svg")
    assert (tmp_path / "fan.svg").read_text(encoding="utf-8") == drawing
    assert FAN._repr_svg_() == drawing
