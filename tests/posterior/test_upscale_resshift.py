"""``posterior upscale --method resshift``: sizes, seams, what survives of a file, what is asked of the restorer, bad input."""

import io
import json
import tracemalloc

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms

from posterior import strip_files, upscaling
from posterior.commands.options import Options
from posterior.images import Picture, atomically, encode, read
from posterior.strip_files import Layout, write_strips
from prior.schedules import Shifted
from restore.resshift import ResShift, ShiftedDenoiser, checkpoints, configuration
from tests.posterior.stub import assert_one_error_line, run, save
from tests.restore.resshift import tiny

TILES = ("--tile", 64, "--overlap", 32, "--tile-above", 0)


class Exact(ResShift):
    """A restorer that answers at once with the bicubically enlarged image, tile by tile; it remembers how it was loaded."""

    loaded = ()

    def __init__(self, factor=4):
        super().__init__(ShiftedDenoiser(tiny.Enlarges(), Shifted()), factor=factor, multiple=8)


@pytest.fixture
def exact(monkeypatch):
    """Whatever is loaded is the exact restorer."""

    def load(name, weights, **options):
        Exact.loaded = (name, weights, options)
        return Exact(1 if name in ("faceir", "deblur") else 4)

    monkeypatch.setattr(upscaling, "load", load)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def files(monkeypatch, folder):
    """The folder of released files, of tiny models."""
    monkeypatch.setattr(configuration, "RELEASED", tiny.RELEASED)
    return folder


def values(height, width, channels=3, seed=0):
    """A smooth picture."""
    coarse = np.random.default_rng(seed).random((1, channels, 4, 4), dtype=np.float32)
    smooth = F.interpolate(torch.from_numpy(coarse), size=(height, width), mode="bicubic", antialias=True).clamp(0, 1)
    return smooth[0].permute(1, 2, 0).numpy()


def test_a_file_too_large_for_the_memory_does_not_stop_a_folder(tmp_path, monkeypatch, exact):
    (tmp_path / "in").mkdir()
    for name, side in (("a", 8), ("b", 16)):
        save(tmp_path / "in" / f"{name}.png", values(side, side))

    def greedy(self, x, t, lq):
        return lq if x.shape[-1] < 64 else torch.empty(2**60)

    monkeypatch.setattr(tiny.Enlarges, "forward", greedy)
    result = upscale(tmp_path / "in", tmp_path / "out")
    assert result.exit_code == 1
    assert "out of memory (" in result.stderr
    assert "take less at once: --tile for images" in result.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.png"]


def upscale(source, target, *args):
    return run("upscale", source, target, "--method", "resshift", *args)


def enlarged(path, factor=4):
    """What the exact restorer makes of a file, without tiles; sides that are multiples of 8."""
    y = read(path).colour[None]
    large = F.interpolate(y, scale_factor=4, mode="bicubic").clamp(0, 1)
    if factor == 4:
        return large[0]
    size = [side * factor for side in y.shape[-2:]]
    return F.interpolate(large, size=size, mode="bicubic", antialias=True).clamp(0, 1)[0]


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_tiles_have_no_seams_and_sizes_are_exact(tmp_path, factor, suffix):
    source = save(tmp_path / "y.png", values(32, 48), depth=16)
    given = () if factor == 4 else ("--factor", factor)
    records = {}
    for name, options in (("whole", ()), ("cut", TILES)):
        result = upscale(source, tmp_path / f"{name}{suffix}", *given, *options, "--json")
        assert result.exit_code == 0, result.output
        (records[name],) = json.loads(result.stdout)["results"]
    whole, cut = (read(tmp_path / f"{name}{suffix}").colour for name in ("whole", "cut"))
    assert whole.shape == (3, 32 * factor, 48 * factor)
    assert (whole - enlarged(source, factor)).abs().max() < 2 / 65535
    assert 0 < (cut - whole).abs().max() < 1 / 255
    assert (records["whole"]["tiles"], records["whole"]["network_calls"]) == (1, 4)
    assert records["cut"]["tiles"] == 3 * 5
    assert records["cut"]["network_calls"] == 4 * records["cut"]["tiles"]
    assert (records["cut"]["width"], records["cut"]["height"], records["cut"]["bits"]) == (48 * factor, 32 * factor, 16)


@pytest.mark.usefixtures("exact")
def test_a_restorer_enlarges_unless_the_reduction_is_told(tmp_path):
    source = save(tmp_path / "y.png", values(8, 8))
    methods = {}
    told = {"noise": ("--noise", 0.02), "area": ("--kernel", "area"), "large": ("--factor", 8)}
    for name, options in {"plain": (), **{name: (*option, "--steps", 2) for name, option in told.items()}}.items():
        result = run("upscale", source, tmp_path / f"{name}.png", *options, "--json")
        assert result.exit_code == 0, result.output
        methods[name] = json.loads(result.stdout)["results"][0]["model"]
    assert methods == {"plain": "photos-x4", "noise": "photos", "area": "photos", "large": "photos"}


@pytest.mark.usefixtures("exact")
def test_cut_above_as_told(tmp_path):
    source = save(tmp_path / "y.png", values(32, 48))  # the restorer's result is 128 x 192
    for above, tiles in (("0.02", 15), ("0.03", 1)):
        given = ("--tile", 64, "--overlap", 32, "--tile-above", above, "--factor", 2, "--overwrite", "--json")
        (record,) = json.loads(upscale(source, tmp_path / "x.png", *given).stdout)["results"]
        assert record["tiles"] == tiles


@pytest.mark.slow
def test_the_shipped_network_has_no_seams(tmp_path):
    source = save(tmp_path / "y.png", values(96, 160), depth=16)
    pictures = []
    for name, options in (("whole", ("--tile", 0)), ("cut", ("--tile", 256, "--overlap", 64, "--tile-above", 0))):
        assert run("upscale", source, tmp_path / f"{name}.png", *options).exit_code == 0
        pictures.append(read(tmp_path / f"{name}.png").colour)
    difference = (pictures[0] - pictures[1]).abs()
    assert 0 < difference.max() < 1 / 255


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("size", [(5, 7), (33, 9), (4, 130)])
def test_any_size(tmp_path, size):
    source = save(tmp_path / "y.png", values(*size))
    for factor in (2, 3, 4):
        assert upscale(source, tmp_path / f"{factor}.png", "--factor", factor, *TILES).exit_code == 0
        assert read(tmp_path / f"{factor}.png").size == (size[0] * factor, size[1] * factor)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_opacity_profile_and_greys_survive(tmp_path, suffix):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    alpha = torch.from_numpy(values(24, 16, 1)).permute(2, 0, 1)
    colour = torch.from_numpy(values(24, 16, 3, seed=1)).permute(2, 0, 1)
    (tmp_path / "y.png").write_bytes(encode(Picture(colour=colour, alpha=alpha, icc=icc), ".png"))
    assert upscale(tmp_path / "y.png", tmp_path / f"x{suffix}").exit_code == 0
    x = read(tmp_path / f"x{suffix}")
    assert x.icc == icc
    expected = F.interpolate(read(tmp_path / "y.png").alpha[None], scale_factor=4, mode="bicubic")[0].clamp(0, 1)
    assert (x.alpha - expected).abs().max() < 1.01 / 255
    assert (x.colour - enlarged(tmp_path / "y.png")).abs().mean() < (0.02 if suffix == ".webp" else 0.51 / 255)
    save(tmp_path / "grey.png", values(16, 16, 1), alpha=torch.full((1, 16, 16), 0.2))
    assert upscale(tmp_path / "grey.png", tmp_path / f"g{suffix}").exit_code == 0
    grey = read(tmp_path / f"g{suffix}")
    if suffix != ".webp":  # which knows no grey
        assert grey.colour.shape == (1, 64, 64)
        assert (grey.colour - enlarged(tmp_path / "grey.png")).abs().max() < 0.51 / 255
    assert (grey.alpha - 0.2).abs().max() < 0.51 / 255


@pytest.mark.usefixtures("exact")
def test_orientation_and_profile_of_a_photograph(tmp_path):
    icc, exif = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), Image.Exif()
    exif[274] = 6
    stored = Image.fromarray((values(16, 24) * 255).astype(np.uint8))
    stored.save(tmp_path / "y.jpg", exif=exif, icc_profile=icc, quality=100)
    assert upscale(tmp_path / "y.jpg", tmp_path / "x.jpg", "--factor", 2).exit_code == 0
    with Image.open(tmp_path / "x.jpg") as image:
        assert image.size == (32, 48)
        assert image.info["icc_profile"] == icc
        assert image.getexif().get(274, 1) == 1
    upright = np.asarray(stored)[::-1].transpose(1, 0, 2) / 255  # a quarter turn clockwise
    shown = read(tmp_path / "x.jpg").colour.permute(1, 2, 0).numpy()[::2, ::2]
    assert np.abs(shown - upright).mean() < 0.03


@pytest.mark.usefixtures("exact")
def test_what_the_options_ask_of_the_restorer(tmp_path):
    source, target = save(tmp_path / "y.png", values(8, 8)), tmp_path / "x.png"
    (tmp_path / "resshift_bicsrx4_s4.pth").touch()
    for args, name in (
        ((), "photos-x4"),
        (("--weights", tmp_path), "realsr_v3"),
        (("--weights", tmp_path / "resshift_bicsrx4_s4.pth"), "bicsr"),
        (("--weights", tmp_path, "--face"), "faceir"),
        (("--weights", tmp_path, "--model", "deblur"), "deblur"),
    ):
        result = upscale(source, target, *args, "--overwrite")
        assert result.exit_code == 0, result.output
        assert Exact.loaded[0] == name
        assert read(target).size == ((8, 8) if name in ("faceir", "deblur") else (32, 32))
    settings = ("--precision", "bf16", "--channels-last", "--compile", "--autoencoder", "a.pth")
    assert upscale(source, target, "--weights", tmp_path, "--overwrite", *settings).exit_code == 0
    assert str(Exact.loaded[2].pop("autoencoder")) == "a.pth"
    assert Exact.loaded[2] == {"dtype": torch.bfloat16, "channels_last": True, "compile": True}
    assert upscale(source, target, "--weights", tmp_path, "--face", "--factor", 4, "--overwrite").exit_code == 0
    assert (read(target).colour - enlarged(source)).abs().max() < 0.51 / 255  # enlarged first
    result = upscale(source, target, "--weights", tmp_path, "--overwrite", "--steps", 2, "--report")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "x.png.json").read_text())
    assert (record["network_calls"], record["operator"], record["std"]) == (2, None, None)
    assert record["settings"] == {
        "method": "resshift", "factor": 4, "steps": 2, "samples": 0, "precision": "fp32", "seed": 0
    }  # fmt: skip


def test_released_files_restore_with_a_spread(tmp_path, files):
    source = save(tmp_path / "y.png", values(16, 24))
    for name, args in {"a": (), "n": ("--samples", 2)}.items():
        result = upscale(source, tmp_path / f"{name}.png", "--weights", files, *args, *TILES)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "n.png").read_bytes()  # samples leave the picture as it is
    assert "the spread of the samples is not calibrated" in result.stdout
    std = read(tmp_path / "n.png.std.png")
    assert (std.depth, std.colour.shape) == (16, (1, 64, 96))
    draws = []
    for seed in range(2):
        upscale(source, tmp_path / f"{seed}.tif", "--weights", files, "--seed", seed, *TILES)
        draws.append(read(tmp_path / f"{seed}.tif").colour)
    assert [(draw - read(tmp_path / "a.png").colour).abs().max() == 0 for draw in draws] == [True, False]
    expected = torch.stack(draws).var(0).mean(0).sqrt()
    seen = std.colour[0] * 0.25
    assert expected.max() > 0.1
    assert (seen - expected.clamp(max=0.25)).abs().max() < 1.5 / 255
    assert sorted(p.name for p in tmp_path.iterdir() if ".part" in p.name) == []


def test_holes_are_filled_and_the_rest_kept(tmp_path, files):
    source = save(tmp_path / "y.png", values(40, 36))
    mask = np.zeros((40, 36, 1))
    mask[10:20, 5:30] = 1
    save(tmp_path / "m.png", mask)
    result = upscale(source, tmp_path / "x.png", "--weights", files, "--mask", tmp_path / "m.png", *TILES)
    assert result.exit_code == 0, result.output
    before, after = (read(tmp_path / name).samples(8) for name in ("y.png", "x.png"))
    known = mask[..., 0] == 0
    assert (before[known] == after[known]).all()
    assert np.abs(before[~known].astype(float) - after[~known]).mean() > 5


def test_the_licence_is_told_once(tmp_path, files):
    checkpoints._tell_licence.cache_clear()
    source = save(tmp_path / "y.png", values(8, 8))
    first, second = (upscale(source, tmp_path / f"{i}.png", "--weights", files) for i in range(2))
    assert first.stderr.startswith("note: the released weights of ResShift")
    assert "non-commercial" in first.stderr
    assert second.stderr == ""


@pytest.fixture
def workplace(tmp_path, files):
    save(tmp_path / "y.png", values(8, 8))
    save(tmp_path / "alpha.png", values(8, 8), alpha=torch.ones(1, 8, 8))
    save(tmp_path / "pixel.png", values(1, 1))
    save(tmp_path / "m.png", np.ones((8, 9, 1)))
    save(tmp_path / "all.png", np.ones((8, 8, 1)))
    save(tmp_path / "there.png", values(8, 8))
    jpeg = io.BytesIO()
    Image.fromarray((values(64, 64) * 255).astype(np.uint8)).save(jpeg, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(jpeg.getvalue()[: len(jpeg.getvalue()) // 2])
    frames = [Image.new("RGB", (8, 8), (k, 0, 0)) for k in (0, 200)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "mine.pth").write_bytes((files / "hole.pth").read_bytes())
    (tmp_path / "files").symlink_to(files)
    return tmp_path


def assert_refused(workplace, monkeypatch, args, message):
    monkeypatch.chdir(workplace)
    before = {p: p.read_bytes() for p in workplace.rglob("*") if p.is_file()}
    assert_one_error_line(upscale(*args.split(" ")), message)
    assert {p: p.read_bytes() for p in workplace.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("y.png x.png --model realsr_v3 --weights mine.pth --autoencoder files", "name that task"),
        ("y.png x.png --model realsr_v3 --weights files/v2.pth", "is the released file of realsr_v2, not of realsr_v3"),
        ("y.png x.png --face --weights files/v2.pth", "is the released file of realsr_v2, not of faceir"),
        ("y.png x.png --model inpaint_imagenet --weights files", "--mask must be given for inpaint_imagenet"),
        ("y.png x.png --model realsr_v3 --weights files --mask m.png", "--mask: realsr_v3 takes none"),
        ("y.png x.png --weights files --mask m.png", "is 9 x 8, but y.png is 8 x 8"),
        ("y.png x.png --weights files --mask all.png", "leaves no pixel of y.png"),
        ("y.png x.png --weights files --steps 9", "--steps must be 1..4 for realsr_v3, whose chain has 4, got 9"),
        ("moving.gif x.png --weights files", "moving.gif: not a PNG, JPEG, TIFF or WebP image"),
        ("y.png x.png --face", "faceir does not ship: give weights"),
        ("y.png x.png --model paintings --weights files", "'paintings' is unknown"),
        ("y.png x.png --weights mine.pth", "--model must name the task that mine.pth was trained for"),
        ("y.png x.png --face --model deblur", "leave one of them out"),
        ("y.png x.png --weights nowhere", "--weights: there is no file or folder nowhere"),
        ("y.png x.png --model photos", "'photos' is a prior, no restorer"),
    ],
)
def test_unfit_files_are_one_line_and_write_nothing(workplace, monkeypatch, args, message):
    assert_refused(workplace, monkeypatch, args, message)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("y.png x.png --weights files --mask m.png --factor 2", "--factor must be left out with --mask"),
        ("y.png x.png --weights files --factor 8", "factor must lie in 1..4"),
        ("y.png x.png --weights files --sampler ddrm", "--sampler ddrm belongs to --method posterior"),
        ("y.png x.png --weights files --noise 0.1", "--noise belongs to --method posterior"),
        ("y.png x.png --weights files --kernel area", "--kernel belongs to --method posterior"),
        ("y.png x.png --weights files --tile 64 --overlap 40", "at least twice overlap"),
        ("y.png x.png --weights files --max-megapixels 0.0005", "the result, 32 x 32, would have more than"),
        ("y.png there.png --weights files", "is there already; --overwrite replaces it"),
        ("alpha.png x.jpg --weights files", "JPEG has no transparency"),
        ("pixel.png x.png --weights files", "1 x 1 pixels are too few to restore; a side must have 4 or more"),
        ("cut.jpg x.png --weights files", "cut.jpg: damaged or unsupported image ("),
        ("no.png x.png --weights files", "no.png: there is no such file or folder"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(workplace, monkeypatch, args, message):
    assert_refused(workplace, monkeypatch, args, message)


def test_options_of_the_restorer_need_its_method(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    for method in (("--method", "posterior"), ("--kernel", "area"), ("--noise", "0.02")):
        assert_one_error_line(run("upscale", "y.png", "x.png", *method, "--face"), "--face belongs to --method resshift")
    for option in ("--face", "--mask m.png", "--autoencoder a.pth", "--precision bf16", "--compile", "--channels-last"):
        refused = run("upscale", "y.png", "x.png", "--method", "posterior", *option.split(" "))
        assert_one_error_line(refused, f"{option.split(' ')[0]} belongs to --method resshift")


@pytest.mark.usefixtures("exact")
def test_a_failing_restorer_leaves_nothing(tmp_path, monkeypatch):
    source, calls = save(tmp_path / "y.png", values(40, 16)), []

    def breaks(self, x, t, lq):
        calls.append(t)
        return lq if len(calls) < 9 else lq * float("nan")

    monkeypatch.setattr(tiny.Enlarges, "forward", breaks)
    result = upscale(source, tmp_path / "new" / "x.png", "--weights", tmp_path, "--samples", 2, *TILES)
    assert_one_error_line(result, "there is no such folder")
    result = upscale(source, tmp_path / "x.png", "--weights", tmp_path, "--samples", 2, *TILES)
    assert_one_error_line(result, "NaN or infinite; take --precision bf16 or fp32")
    assert len(calls) > 8
    assert [p.name for p in tmp_path.iterdir()] == ["y.png"]


@pytest.mark.usefixtures("exact")
def test_one_bad_file_does_not_stop_a_folder(tmp_path, workplace):
    source, target = workplace / "in", tmp_path / "out"
    (source / "sub").mkdir(parents=True)
    save(source / "a.png", values(8, 8))
    save(source / "sub" / "b.tif", values(8, 16), depth=16)
    (source / "cut.jpg").write_bytes((workplace / "cut.jpg").read_bytes())
    save(source / "dot.png", values(1, 1))
    result = upscale(source, target, "--weights", tmp_path, "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert [r["output"] for r in told["results"]] == [str(target / "a.png"), str(target / "sub" / "b.tif")]
    assert [f["input"] for f in told["failures"]] == [str(source / "cut.jpg"), str(source / "dot.png")]
    assert result.stderr.count("error: ") == 2
    assert sorted(p.name for p in target.rglob("*.*")) == ["a.png", "b.tif"]
    assert read(target / "sub" / "b.tif").depth == 16


@pytest.mark.usefixtures("exact")
def test_progress_counts_network_calls(tmp_path):
    source, seen = save(tmp_path / "y.png", values(24, 16)), []
    options = Options(tile=64, overlap=32, tile_above=0, samples=2, weights=tmp_path)
    upscaling.Upscaling().run(source, tmp_path / "x.png", options, lambda *step: seen.append(step))
    assert seen == [(pytest.approx(k / 16), 1) for k in range(1, 17)]  # two tiles, two samples, four steps


@pytest.mark.parametrize("depth", [8, 16, 32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_strips_make_the_file_of_the_whole(tmp_path, suffix, channels, depth, monkeypatch):
    monkeypatch.setattr(strip_files, "TIFF_STRIP", 8)
    if suffix == ".jpg" and channels in (2, 4):
        return
    planes = torch.from_numpy(np.random.default_rng(0).random((channels, 21, 13), dtype=np.float32))
    colours = 1 if channels < 3 else 3
    picture = Picture(
        colour=planes[:colours], alpha=planes[colours:] if channels in (2, 4) else None, depth=depth, icc=b"p" * 9
    )
    kept = Layout.within(suffix, depth)
    rows = picture.samples(kept)
    layout = Layout(height=21, width=13, channels=channels, depth=kept, icc=picture.icc)
    for name, heights in (("a", [21]), ("b", [1, 16, 2, 2])):
        cuts = np.split(rows, np.cumsum(heights)[:-1])
        with atomically(tmp_path / (name + suffix)) as file:
            write_strips(file, suffix, layout, iter(cuts))
        x = read(tmp_path / (name + suffix))
        (tmp_path / f"whole{suffix}").write_bytes(encode(picture, suffix))
        whole = read(tmp_path / f"whole{suffix}")
        assert (x.depth, x.size, x.icc) == (whole.depth, whole.size, whole.icc)
        assert (x.samples(kept) == whole.samples(kept)).all()
    if suffix == ".tif":
        with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
            assert len(tiff.pages[0].dataoffsets) == 3


def test_formats_have_limits(tmp_path):
    with pytest.raises(ValueError, match=r"x.webp: WebP holds up to 16383 pixels a side, the result is 16384 x 8; write .png"):
        Layout(height=8, width=16384, channels=3).check(tmp_path / "x.webp")
    Layout(height=8, width=16384, channels=3).check(tmp_path / "x.jpg")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_memory_is_that_of_a_strip(tmp_path, suffix):
    layout = Layout(height=4096, width=1024, channels=3)
    strip = np.zeros((64, 1024, 3), np.uint8)
    tracemalloc.start()
    with atomically(tmp_path / f"x{suffix}") as file:
        write_strips(file, suffix, layout, (strip for _ in range(64)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * layout.height * layout.width * 3
    assert read(tmp_path / f"x{suffix}").size == (4096, 1024)
