"""reconstruct --resume after a kill: the same volume bit for bit; and two processes give what one does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.posterior import volumes as known
from tests.posterior.stub import assert_one_error_line, run

DRIVER = """
import sys
import prior
from tests.posterior import volumes
prior.load = volumes.load
volumes.SmoothPrior.delay = float(sys.argv[1])
from posterior.cli import app
app(sys.argv[2:], prog_name="posterior")
"""
ROOT = Path(__file__).parents[2]
SETTINGS = ("--modality", "ct", "--views", "8", "--steps", "8", "--samples", "2", "--chunk", "4", "--seed", "3")


def command(folder, *args, delay=0.0):
    (folder / "driver.py").write_text(DRIVER)
    return [sys.executable, str(folder / "driver.py"), str(delay), "reconstruct", "scan.nii.gz", *SETTINGS, *args]


def surroundings(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", **more}


def test_a_killed_run_goes_on_to_the_same_volume(tmp_path, monkeypatch):
    known.save_scan(tmp_path / "scan.nii.gz", known.hounsfield())
    state = tmp_path / ".x.nii.gz.state"
    slow = command(tmp_path, "-o", "x.nii.gz", "--save-every", "0", delay=0.25)  # 32 calls: 8 s
    with subprocess.Popen(slow, cwd=tmp_path, env=surroundings()) as process:
        deadline = time.monotonic() + 300
        while not state.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.6)
        process.send_signal(signal.SIGKILL)
    assert state.exists()
    assert not (tmp_path / "x.nii.gz").exists()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("prior.load", known.load, raising=False)
    again = ("reconstruct", "scan.nii.gz", *SETTINGS)
    assert_one_error_line(run(*again, "-o", "x.nii.gz"), "an earlier run was cut short; go on with it by --resume")
    other = run(*again, "-o", "x.nii.gz", "--resume", "--photons", 1000)
    assert_one_error_line(other, "the state of another reconstruction")
    resumed = run(*again, "-o", "x.nii.gz", "--resume")
    assert resumed.exit_code == 0, resumed.output
    whole = run(*again, "-o", "whole.nii.gz")
    assert whole.exit_code == 0, whole.output
    assert known.same("x.nii.gz", "whole.nii.gz")
    assert known.same("x_std.nii.gz", "whole_std.nii.gz")
    assert not state.exists()


def test_a_damaged_state_is_one_error(tmp_path, monkeypatch):
    known.save_scan(tmp_path / "scan.nii.gz", known.hounsfield())
    (tmp_path / ".x.nii.gz.state").write_bytes(b"no state")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("prior.load", known.load, raising=False)
    result = run("reconstruct", "scan.nii.gz", *SETTINGS, "-o", "x.nii.gz", "--resume")
    assert_one_error_line(result, "damaged or no state of a reconstruction")


@pytest.mark.slow
@pytest.mark.parametrize("torchrun", [True, False])
def test_two_processes_give_what_one_does(tmp_path, torchrun):
    known.save_scan(tmp_path / "scan.nii.gz", known.hounsfield())
    shared = ("--device", "cpu", "--chunk", "2")
    one = command(tmp_path, *shared, "-o", "one.nii.gz")
    subprocess.run(one, cwd=tmp_path, env=surroundings(), check=True, timeout=300)
    two = command(tmp_path, *shared, "-o", "two.nii.gz", "--devices", "2", "--json")
    if torchrun:
        two = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", *two[1:]]
    done = subprocess.run(two, cwd=tmp_path, env=surroundings(), check=True, timeout=300, capture_output=True, text=True)
    assert done.stdout.count('"command": "reconstruct"') == 1  # the first process alone tells
    assert known.same(tmp_path / "one.nii.gz", tmp_path / "two.nii.gz")


def test_more_processes_than_torchrun_has(tmp_path, monkeypatch):
    known.save_scan(tmp_path / "scan.nii.gz", known.hounsfield())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = run("reconstruct", "scan.nii.gz", *SETTINGS, "-o", "x.nii.gz", "--devices", "3", "--device", "cpu")
    assert_one_error_line(result, "--devices 3 --nodes 1 are 3 processes, but torchrun has started 2")
