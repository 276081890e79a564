"""Importing a package is free: nothing heavy is loaded before it is used."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


CORE = ["prior", "prior.networks", "prior.samplers", "inverse", "inverse.operators", "inverse.samplers"]
PARTS = ("analytic", "classical", "coils", "files", "geometry", "operators", "sampling")
MEDICAL = ["medical", *(f"medical.{part}" for part in PARTS)]
RESTORE = ["restore", "restore.resshift", "restore.degradations"]


@pytest.mark.parametrize(
    "package",
    [
        "prior",
        "inverse",
        "inverse.operators",
        "prior.networks",
        "prior.samplers",
        "inverse.samplers",
        *MEDICAL,
        *RESTORE,
        "timeseries",
        "posterior",
    ],
)
def test_import_is_lazy(package):
    heavy = ("torch", "numpy", "lightning", "skimage", "numba", "h5py", "nibabel", "finufft")
    code = f"import sys, {package}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("package", [*CORE, *MEDICAL, *RESTORE[1:], "timeseries"])
def test_every_public_name_resolves(package):
    code = f"import {package} as p; print(all(getattr(p, name) is not None for name in p.__all__), len(p.__all__) > 3)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


def test_forecasts_of_a_trained_model_need_no_lightning():
    """It takes longer to import than a forecast to make."""
    code = "import sys, posterior.forecasting; print([m for m in ('lightning', 'torch._dynamo') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
