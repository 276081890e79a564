"""A prior of which everything is known, small images, and how the tests call the command line."""

import numpy as np
import torch
from torch import nn
from typer.testing import CliRunner

from posterior.cli import app
from posterior.images import Picture, encode, read
from prior.denoiser import Denoiser, ImageHead
from prior.schedules import EDM

SPREAD = 0.15  # of a pixel, in [0, 1]


class PixelPrior(nn.Module):
    """The posterior mean of a pixel that is normal around 0 with 2 SPREAD, in the network's range [-1, 1]."""

    calls = 0

    def forward(self, x, t):
        PixelPrior.calls += 1
        variance = (2 * SPREAD) ** 2
        return x * variance / (variance + t.view(-1, 1, 1, 1) ** 2)


def load(name, *, weights=None):
    """In place of ``prior.load``."""
    if name != "photos":
        raise ValueError(f"unknown model {name!r}: known are photos")
    if weights is not None:
        raise ValueError(f"weights: {weights} cannot be read (SafetensorError); it is corrupt or of another kind")
    return Denoiser(PixelPrior(), EDM(sigma_min=0.005), ImageHead()).eval()


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def save(path, values, depth=8, alpha=None):
    """Write values (H, W, C) in [0, 1]."""
    colour = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).permute(2, 0, 1)
    path.write_bytes(encode(Picture(colour=colour, alpha=alpha, depth=depth), path.suffix))
    return path


def noisy(size=(24, 20), channels=3, noise=SPREAD, seed=0):
    """A draw of the prior, and the same with noise."""
    rng = np.random.default_rng(seed)
    clean = 0.5 + SPREAD * rng.standard_normal((*size, channels))
    return clean, clean + noise * rng.standard_normal(clean.shape)


def psnr(path, clean):
    values = read(path).colour.permute(1, 2, 0).numpy()
    return -10 * np.log10(np.mean((values - clean) ** 2))


def assert_one_error_line(result, message, code=2):
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]


def folder_of(tmp_path):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    save(tmp_path / "in" / "a.png", noisy((8, 8))[1])
    save(tmp_path / "in" / "sub" / "b.tif", noisy((6, 10))[1], depth=16)
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    return tmp_path / "in"
