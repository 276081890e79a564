"""A state comes back from its file as it went, or not at all."""

import pytest
import torch

from medical.samplers import Run
from medical.samplers.data_step import Position
from medical.samplers.walk_state import Keeper, WalkState, fingerprint
from tests.medical.classical.problems import randn


def state():
    x = randn(3, 1, 2, 2, dtype=torch.complex64)
    return WalkState([randn(3, 1, 2, 2)], 7, Position(x, randn(1, 3, 1, 2, 2), randn(1, 3, 1, 2, 2, seed=1)), 12, 3.5)


def test_there_and_back(tmp_path):
    run, kept = Run(state=tmp_path / "state.pt", every=0), state()
    Keeper(run, "mark").keep(kept)
    back = Keeper(run, "mark").read(torch.device("cpu"))
    assert (back.step, back.calls, back.seconds) == (7, 12, 3.5)
    assert torch.equal(back.draws[0], kept.draws[0])
    for name in ("x", "v", "w"):
        assert torch.equal(getattr(back.position, name), getattr(kept.position, name))
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"], "nothing else is left behind"


def test_before_the_first_step(tmp_path):
    run = Run(state=tmp_path / "state.pt", every=0)
    assert vars(Keeper(run, "mark").read(torch.device("cpu"))) == vars(WalkState())
    Keeper(run, "mark").keep(WalkState())
    assert Keeper(run, "mark").read(torch.device("cpu")).position is None


def test_written_no_more_often_than_asked(tmp_path):
    Keeper(Run(state=tmp_path / "state.pt", every=3600), "mark").keep(state())
    assert not (tmp_path / "state.pt").exists()
    Keeper(Run(), "mark").keep(state())


@pytest.mark.parametrize("damage", ["empty", "half", "text", "other"])
def test_damaged(tmp_path, damage):
    path = tmp_path / "state.pt"
    run = Run(state=path, every=0)
    Keeper(run, "mark").keep(state())
    content = path.read_bytes()
    if damage == "other":
        torch.save({"mark": "mark"}, path)
    else:
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "text": b"hello"}[damage])
    with pytest.raises(ValueError, match="damaged or no state"):
        Keeper(run, "mark").read(torch.device("cpu"))


def test_of_another_walk(tmp_path):
    run = Run(state=tmp_path / "state.pt", every=0)
    Keeper(run, "mark").keep(state())
    with pytest.raises(ValueError, match="another reconstruction"):
        Keeper(run, "other").read(torch.device("cpu"))


def test_fingerprint():
    net, y = torch.nn.Linear(2, 2), randn(3, dtype=torch.complex64)
    mark = fingerprint(net, y, ("a", 1))
    assert mark == fingerprint(net, y.clone(), ("a", 1))
    others = [fingerprint(net, y + 1, ("a", 1)), fingerprint(net, y, ("a", 2)), fingerprint(torch.nn.Linear(2, 2), y, ("a", 1))]
    assert len({mark, *others}) == 4
