"""The documents' Python runs as it stands, and every command they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from inverse.operators import Blur, Gaussian
from posterior.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        for i, block in enumerate(re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)):
            found.append((f"{document.name}-{i}", block))
    return found


@pytest.mark.parametrize("source", [b for _, b in blocks("python")], ids=[name for name, _ in blocks("python")])
def test_python_runs(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    names = {"y": Blur.gaussian(3.0, noise=Gaussian(0.02)).measure(image)}
    exec(compile(source, "document", "exec"), names)
    if "out" in names:
        torch.testing.assert_close(names["measured"] + names["filled"], names["out"].estimate)
        assert (tmp_path / "result" / "reconstruction.json").is_file()


def test_every_command_in_the_documents_exists():
    text = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    named = set(re.findall(r"^posterior +([a-z]+)", text, re.MULTILINE))
    assert {"deblur", "inpaint", "upscale", "train", "weights"} <= named
    known = CliRunner().invoke(app, ["--help"]).output
    assert not {name for name in named if name not in known}
