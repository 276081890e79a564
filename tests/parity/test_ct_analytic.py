"""Exact data of ellipses and ellipsoids, and the reconstructions of an independent implementation (float32 stored)."""

import math

import pytest
import torch

from medical.analytic import fbp, fdk
from medical.geometry import ConeBeam, Detector, FanBeam, ParallelBeam, Volume
from medical.phantoms import Ellipses, Ellipsoids
from tests.parity.cases import needs_parity, parity_cases

pytestmark = needs_parity("ct")

STORED = 5e-7  # float32, relative to the largest value


def planes(case):
    """``name: beam`` of the case's data."""
    s = case.settings
    par, fan, curved = s["par"], s["fan"], s["fancurved"]
    dod = curved.get("dod", fan["dod"])
    arc = curved["dgamma"] * (curved["dso"] + dod)
    return {
        "par": ParallelBeam(case["par_angles"], Detector(par["n_det"], par["spacing"])),
        "fan": FanBeam(case["fan_angles"], Detector(fan["n_det"], fan["det_spacing"]), fan["dso"], fan["dod"]),
        "fancurved": FanBeam(case["fan_angles"], Detector(curved["n_det"], arc, curved=True), curved["dso"], dod),
    }


def cone(case):
    s = case.settings
    return ConeBeam(case["angles"], Detector((s["n_rows"], s["n_cols"]), s["spacing"]), s["dso"], s["dod"])


def helix(case):
    s, h = case.settings, case.settings["helical"]
    detector = Detector((h["n_rows"], s["n_cols"]), s["spacing"], curved=h["curved"])
    return ConeBeam(case["helical_angles"], detector, s["dso"], s["dod"], h["pitch"], h["z0"])


def psnr(image, truth):
    return float(10 * torch.log10((truth.max() - truth.min()) ** 2 / (image - truth).square().mean()))


def close(got, stored):
    torch.testing.assert_close(got.to(torch.float64), stored.double(), rtol=0, atol=STORED * float(stored.abs().max()))


@pytest.mark.parametrize("name", ["par", "fan", "fancurved"])
@pytest.mark.parametrize("case", parity_cases("ct", "shepp_logan"), ids=str)
def test_exact_line_integrals(case, name):
    close(Ellipses(case["ellipses"]).project(planes(case)[name]), case[f"{name}_sino"])


@pytest.mark.parametrize("case", parity_cases("ct", "shepp_logan"), ids=str)
def test_means_over_pixels(case):
    """The stored picture is a mean over points, ours over lines: both are within 1e-3 of the exact mean on average."""
    n, pixel = case.settings["n"], case.settings["pixel"]
    image = Ellipses(case["ellipses"]).rasterise(Volume((n, n), pixel), oversampling=16)
    assert (image - case["raster"]).abs().mean() < 2e-3


@pytest.mark.parametrize("name", ["par", "fan", "fancurved"])
@pytest.mark.parametrize("case", parity_cases("ct", "shepp_logan"), ids=str)
def test_fbp(case, name):
    n, pixel = case.settings["n"], case.settings["pixel"]
    image = fbp(case[f"{name}_sino"][None, None], Volume((n, n), pixel), planes(case)[name])[0, 0]
    assert (image - case[f"{name}_fbp_ref"]).abs().mean() < 1e-4
    stated = case.settings["fbp_check"][f"{name}_fbp_ref"]
    assert psnr(image, case["raster"]) == pytest.approx(stated["psnr"], abs=0.05)


@pytest.mark.parametrize("case", parity_cases("ct", "shepp_logan"), ids=str)
def test_the_head_is_the_stored_one(case):
    head = Ellipses.shepp_logan(case.settings["n"] * case.settings["pixel"])
    if len(case["ellipses"]) == len(head.table):
        torch.testing.assert_close(torch.tensor(head.table, dtype=torch.float64), case["ellipses"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", parity_cases("ct", "cone_analytic"), ids=str)
def test_exact_line_integrals_of_ellipsoids(case):
    phantom = Ellipsoids(case["ellipsoids"])
    close(phantom.project(cone(case)), case["sino"])
    close(phantom.project(helix(case)), case["helical_curved_sino"])


@pytest.mark.parametrize("case", parity_cases("ct", "cone_analytic"), ids=str)
def test_fdk(case):
    """Ours goes on beyond the detector's columns, where a few voxels at the grid's corners look: 4e-5 on average."""
    volume = Volume(case.settings["volume_shape_zyx"], case.settings["voxel"])
    truth = case["truth_point_sampled"]
    close(Ellipsoids(case["ellipsoids"]).sample(volume), truth)
    image = fdk(case["sino"][None, None], volume, cone(case))[0, 0]
    assert (image - case["fdk_ref"]).abs().mean() < 1e-3
    assert psnr(image, truth) == pytest.approx(case.settings["fdk_volume_psnr"], abs=0.05)
    middle = len(truth) // 2
    assert psnr(image[middle], truth[middle]) == pytest.approx(case.settings["fdk_midplane_psnr"], abs=0.05)


@pytest.mark.parametrize("case", parity_cases("ct", "cone_analytic"), ids=str)
def test_helix_of_the_stored_pitch(case):
    """With enough views the stored helix gives the phantom back; the stored one has eight a turn."""
    volume, few = Volume(case.settings["volume_shape_zyx"], case.settings["voxel"]), helix(case)
    start, stop = min(few.angles) - math.pi, max(few.angles) + math.pi
    angles = torch.arange(start, stop, 2 * math.pi / 96)
    beam = ConeBeam(angles, few.detector, few.source_distance, few.detector_distance, few.pitch, few.z0)
    phantom = Ellipsoids(case["ellipsoids"])
    image = fdk(phantom.project(beam)[None, None].float(), volume, beam)[0, 0]
    assert psnr(image, phantom.rasterise(volume)) > 24
