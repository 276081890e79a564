"""Files that pickle objects of other packages: their tensors come as they were saved, and nothing of them runs."""

import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict, defaultdict, deque
from enum import Enum
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from prior import inert_pickles
from prior.checkpoints import read_file
from prior.inert_pickles import DTYPES, Inert, read_inert

FORMATS = pytest.mark.parametrize("legacy", [False, True])
ABSENT = "package_that_is_not_there"


def save(content, path, legacy=False, **options):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy, **options)
    return path


@pytest.fixture
def absent(monkeypatch):
    """A module that is there while the test writes files; :func:`forget` takes it away."""
    module = ModuleType(ABSENT)
    code = """
class Settings:
    def __init__(self, **values):
        self.__dict__.update(values)
class Frozen:
    __slots__ = ("value",)
    def __init__(self, value):
        self.value = value
class Attributes(dict): pass
class Rows(list): pass
class Names(set): pass
class Pair(tuple): pass
def schedule(steps): return steps
"""
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, ABSENT, module)
    return module


def forget(module):
    del sys.modules[module.__name__]


class Colour(Enum):
    RED = 1


class Bomb:
    """Calls a function with arguments as soon as it is unpickled."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def weights():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = OrderedDict((str(dtype), torch.randint(0, 2, (3, 4)).to(dtype)) for dtype in DTYPES.values())
        found |= {"transposed": torch.randn(4, 3).T, "part": torch.randn(9)[2::3], "empty": torch.zeros(0, 2)}
        return found | {"scalar": torch.tensor(7), "parameter": nn.Parameter(torch.randn(2, 2))}


def lightning(module, state):
    """What a Lightning checkpoint holds, of a model whose settings are objects of ``module``."""
    settings = module.Attributes(schedule=module.schedule, kind=module.Settings, value=module.Settings(width=64, of=[1, 2]))
    odd = [module.Rows([1, 2]), module.Names([3]), module.Pair((4, 5)), module.Frozen(6), defaultdict(list, a=[7]), deque([8])]
    plain = {"path": Path("runs"), "colour": Colour.RED, "call": partial(module.schedule, 3), "bytes": b"\xff", "set": {1}}
    return {
        "epoch": 3,
        "pytorch-lightning_version": "1.9.4",
        "state_dict": state,
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"settings": settings, "odd": odd, "plain": plain, module.Frozen: module.Settings()},
    }


def same(a, b):
    assert a.dtype == b.dtype
    assert torch.equal(a, b)


@FORMATS
@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_of_a_lightning_file_without_its_packages(legacy, protocol, absent, tmp_path):
    state = weights()
    path = save(lightning(absent, state), tmp_path / "last.ckpt", legacy, pickle_protocol=protocol)
    forget(absent)
    found = read_file(path)
    assert list(found["state_dict"]) == list(state)
    for name, value in state.items():
        same(found["state_dict"][name], value)
    assert (found["epoch"], found["pytorch-lightning_version"]) == (3, "1.9.4")
    assert found["optimizer_states"][0]["param_groups"] == [{"lr": 1e-3, "betas": (0.9, 0.999)}]
    assert isinstance(found["hyper_parameters"]["settings"], Inert)
    assert type(found["hyper_parameters"]["settings"]).__name__ == "Attributes"
    assert ABSENT not in sys.modules


@FORMATS
def test_nothing_of_a_file_runs_or_is_imported(legacy, monkeypatch, tmp_path):
    (tmp_path / "module_with_effect.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\ndef f(*a): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = ModuleType("module_with_effect")
    module.f = lambda *_: None
    module.f.__module__, module.f.__qualname__ = module.__name__, "f"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    bombs = [
        Bomb(Path.touch, tmp_path / "touched"),
        Bomb(open, str(tmp_path / "opened"), "w"),
        Bomb(exec, f"open({str(tmp_path / 'executed')!r}, 'w')"),
        Bomb(module.f, 1),
        Bomb(getattr, Path, "touch"),
    ]
    path = save({"state_dict": {"w": torch.arange(3.0)}, "hyper_parameters": bombs}, tmp_path / "last.ckpt", legacy)
    forget(module)
    same(read_file(path)["state_dict"]["w"], torch.arange(3.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "module_with_effect.py"]
    assert module.__name__ not in sys.modules


def test_a_pickle_changes_nothing_of_ours(tmp_path):
    """A BUILD sets attributes of what it is given, here of the function that makes tensors, which the next file needs."""
    (tmp_path / "hostile.pt").write_bytes(b"ctorch._utils\n_rebuild_tensor_v2\nN}X\x04\x00\x00\x00evilK\x01s\x86b.")
    with pytest.raises(pickle.UnpicklingError):
        read_inert(tmp_path / "hostile.pt")
    assert not vars(inert_pickles._tensor)
    assert not hasattr(torch._utils._rebuild_tensor_v2, "evil")


def test_shared_storages_stay_shared(absent, tmp_path):
    whole = torch.arange(6.0)
    path = save({"whole": whole, "part": whole[2:], "thing": absent.Settings()}, tmp_path / "a.pt")
    found = read_file(path)
    found["whole"][3] = 9
    assert found["part"].tolist() == [2, 9, 4, 5]


@FORMATS
def test_files_without_tensors_of_their_own_are_refused(legacy, absent, tmp_path):
    itself = [absent.Settings()]
    itself.append(itself)
    contents = [absent.Settings(w=torch.zeros(2)), {"model": nn.Linear(2, 2)}, {"hyper_parameters": itself}]
    for i, content in enumerate(contents):
        path = save(content, tmp_path / f"{i}.pt", legacy)
        with pytest.raises(ValueError, match=r"cannot be read as a checkpoint: .* and no tensor beside them$"):
            read_file(path)


@FORMATS
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.999])
def test_cut_files_are_refused(legacy, kept, absent, tmp_path):
    whole = save({"w": torch.randn(500), "thing": absent.Settings()}, tmp_path / "whole.pt", legacy).read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_file(path)


def rewritten(path, change, **options):
    """The zipped file with the bytes of each record changed."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in records.items():
            archive.writestr(name, change(name.partition("/")[2], content))
    return path


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda name, content: content, {"compression": zipfile.ZIP_DEFLATED}, "is compressed"),
        (lambda name, content: b"big" if name == "byteorder" else content, {}, "not little-endian"),
        (lambda name, content: content[:8] if name == "data/0" else content, {}, "ValueError"),
        (lambda name, content: content.replace(b"K\x05\x85", b"K\x50\x85"), {}, "out of bounds"),
        (lambda name, content: content.replace(b"FloatStorage", b"EvilsStorage"), {}, "is no storage"),
    ],
)
def test_records_that_do_not_fit_are_refused(change, options, message, absent, tmp_path):
    path = save({"w": torch.zeros(9)[:5], "thing": absent.Settings()}, tmp_path / "a.pt")
    with pytest.raises(pickle.UnpicklingError, match=message):
        read_inert(rewritten(path, change, **options))


def test_a_storage_larger_than_its_file_is_not_allocated(tmp_path):
    class Huge(pickle.Pickler):
        def persistent_id(self, thing):
            return ("storage", torch.FloatStorage, "0", "cpu", 2**50, None) if thing == "huge" else None

    file = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(part, file, protocol=2)
    Huge(file, protocol=2).dump(["huge"])
    pickle.dump(["0"], file, protocol=2)
    file.write(struct.pack("<q", 2**50))
    (tmp_path / "huge.pt").write_bytes(file.getvalue())
    with pytest.raises(pickle.UnpicklingError, match="there cannot be 1125899906842624 entries"):
        read_inert(tmp_path / "huge.pt")
