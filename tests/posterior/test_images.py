"""Image files: what comes back is what was stored, upright, at its depth, or one clear error."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from posterior import images
from posterior.images import Picture, check_format, encode, read, write_atomically

RNG = np.random.default_rng(0)


def random_samples(channels, depth, size=(7, 5)):
    dtype = np.uint8 if depth == 8 else np.uint16
    return RNG.integers(0, 2**depth, (*size, channels), dtype=dtype)


def picture_of(samples, depth):
    planes = torch.from_numpy(samples.astype(np.float32) / (2**depth - 1)).permute(2, 0, 1)
    colours = 1 if len(planes) < 3 else 3
    return Picture(colour=planes[:colours], alpha=planes[colours:] if len(planes) > colours else None, depth=depth)


def paeth(a, b, c):
    distances = [abs(b - c), abs(a - c), abs(a + b - 2 * c)]
    return [a, b, c][distances.index(min(distances))]


def png16(samples, colour_type):
    """A PNG of 16 bits whose rows use the five filters in turn, written from the specification, byte by byte."""
    height, width, channels = samples.shape
    step = 2 * channels
    rows = [list(samples[i].astype(">u2").tobytes()) for i in range(height)]
    lines = b""
    for i, row in enumerate(rows):
        above = rows[i - 1] if i else [0] * len(row)
        left, corner = [0] * step + row[:-step], [0] * step + above[:-step]
        predicted = [
            [0] * len(row),
            left,
            above,
            [(a + b) // 2 for a, b in zip(left, above, strict=True)],
            [paeth(a, b, c) for a, b, c in zip(left, above, corner, strict=True)],
        ][i % 5]
        lines += bytes([i % 5, *((v - p) % 256 for v, p in zip(row, predicted, strict=True))])
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_16_bit_png_is_read_exactly(tmp_path, channels, colour_type):
    samples = random_samples(channels, 16)
    path = tmp_path / "a.png"
    path.write_bytes(png16(samples, colour_type))
    picture = read(path)
    assert picture.depth == 16
    assert (picture.samples(16) == samples).all()


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_round_trip_is_exact(tmp_path, suffix, channels, depth):
    samples = random_samples(channels, depth)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode(picture_of(samples, depth), suffix))
    again = read(path)
    assert again.depth == depth
    assert again.samples(depth).dtype == samples.dtype
    assert (again.samples(depth) == samples).all()


def test_written_16_bit_png_is_read_by_others():
    samples = random_samples(1, 16)
    with Image.open(io.BytesIO(encode(picture_of(samples, 16), ".png"))) as image:
        assert (np.array(image) == samples[..., 0]).all()
    colour = random_samples(3, 16)
    with Image.open(io.BytesIO(encode(picture_of(colour, 16), ".png"))) as image:
        assert (np.array(image) == colour >> 8).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_float_tiff_round_trip(tmp_path, channels):
    values = RNG.random((6, 8, channels)).astype(np.float32) * 1.2 - 0.1
    tifffile.imwrite(tmp_path / "a.tif", values.squeeze(), photometric="rgb" if channels == 3 else "minisblack")
    picture = read(tmp_path / "a.tif")
    assert picture.depth == 32
    (tmp_path / "b.tif").write_bytes(encode(picture, ".tif"))
    assert (read(tmp_path / "b.tif").samples(32) == values).all()
    (tmp_path / "b.png").write_bytes(encode(picture, ".png"))
    assert read(tmp_path / "b.png").depth == 16
    assert (read(tmp_path / "b.png").samples(16) == np.rint(values.clip(0, 1) * 65535)).all()


def test_lzw_tiff_of_16_bits(tmp_path):
    grey = random_samples(1, 16)[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.tif", compression="tiff_lzw")
    assert (read(tmp_path / "a.tif").samples(16)[..., 0] == grey).all()


def lzw_literals(data):
    """TIFF 6.0 LZW without matches: a clear code before every 100 bytes, all codes 9 bits wide."""
    codes = [c for i in range(0, len(data), 100) for c in (256, *data[i : i + 100])] + [257]
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


@pytest.mark.parametrize("order", ["<", ">"])
def test_lzw_tiff_of_16_bit_colour(tmp_path, order):
    samples = random_samples(3, 16)
    strip = lzw_literals(samples.astype(f"{order}u2").tobytes())
    tags = [
        (256, 3, 5),
        (257, 3, 7),
        (258, 3, None),
        (259, 3, 5),
        (262, 3, 2),
        (273, 4, None),
        (277, 3, 3),
        (278, 3, 7),
        (279, 4, len(strip)),
    ]
    depths_at = 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag, kind, value in tags:
        count = 3 if tag == 258 else 1
        value = depths_at if tag == 258 else depths_at + 6 if tag == 273 else value
        wide = kind == 4 or tag == 258
        entries += struct.pack(f"{order}HHI", tag, kind, count) + struct.pack(f"{order}I" if wide else f"{order}Hxx", value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    (tmp_path / "a.tif").write_bytes(head + entries + struct.pack(f"{order}I3H", 0, 16, 16, 16) + strip)
    assert (read(tmp_path / "a.tif").samples(16) == samples).all()


TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),  # stored turned left, to be shown turned right
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    upright = random_samples(3, 8)
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(np.ascontiguousarray(TURNED[orientation](upright))).save(tmp_path / f"a{suffix}", exif=exif, **options)
    assert (read(tmp_path / f"a{suffix}").samples(8) == upright).all()


@pytest.mark.parametrize("orientation", TURNED)
def test_orientation_of_16_bit_tiff(tmp_path, orientation):
    upright = random_samples(3, 16)
    stored = np.ascontiguousarray(TURNED[orientation](upright))
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    assert (read(tmp_path / "a.tif").samples(16) == upright).all()


def test_jpeg_orientation_and_quality(tmp_path):
    ramp = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(ramp).save(tmp_path / "a.jpg", exif=exif, quality=95)
    picture = read(tmp_path / "a.jpg")
    assert picture.size == (64, 48)
    assert np.abs(picture.samples(8).astype(int) - np.rot90(ramp, -1)).mean() < 3
    (tmp_path / "b.jpg").write_bytes(encode(picture, ".jpg"))
    assert np.abs(read(tmp_path / "b.jpg").samples(8).astype(int) - picture.samples(8)).mean() < 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("depth", [8, 16])
def test_icc_profile_is_kept(tmp_path, suffix, depth):
    icc = b"\0\0\x02\x0clcms" + bytes(200) + b"acsp" + bytes(312)
    picture = picture_of(random_samples(3, depth), depth)
    with_profile = Picture(colour=picture.colour, depth=depth, icc=icc)
    (tmp_path / f"a{suffix}").write_bytes(encode(with_profile, suffix))
    assert read(tmp_path / f"a{suffix}").icc == icc
    assert with_profile.with_colour(picture.colour[:1]).icc is None  # a profile of RGB does not describe grey


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("L", 1), ("LA", 2), ("P", 3), ("RGB", 3), ("RGBA", 4), ("CMYK", 3)])
def test_pillow_modes(tmp_path, mode, channels):
    image = Image.fromarray(random_samples(3, 8)).convert(mode)
    suffix = ".tif" if mode == "CMYK" else ".png"
    image.save(tmp_path / f"a{suffix}")
    wanted = image.convert("RGB") if mode in ("P", "CMYK") else image.convert("L") if mode == "1" else image
    samples = read(tmp_path / f"a{suffix}").samples(8)
    assert samples.shape[-1] == channels
    assert (samples.squeeze() == np.array(wanted)).all()


def test_transparent_colour_becomes_alpha(tmp_path):
    samples = random_samples(3, 8)
    samples[2, 3] = (1, 2, 3)
    Image.fromarray(samples).save(tmp_path / "a.png", transparency=(1, 2, 3))
    alpha = read(tmp_path / "a.png").samples(8)[..., 3]
    assert alpha[2, 3] == 0
    assert (alpha == 255).sum() == alpha.size - 1


def test_black_and_white_tiff(tmp_path):
    bits = RNG.random((7, 5)) < 0.5
    Image.fromarray(bits).save(tmp_path / "a.tif")
    assert (read(tmp_path / "a.tif").samples(8)[..., 0] == 255 * bits).all()


def jpeg_cut_short():
    buffer = io.BytesIO()
    Image.fromarray(random_samples(3, 8, (64, 64))).save(buffer, "JPEG")
    return buffer.getvalue()[:600]


def tiff_of(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def animation():
    buffer = io.BytesIO()
    frames = [Image.fromarray(random_samples(3, 8)) for _ in range(3)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    return buffer.getvalue()


NAN = np.array([[0.5, np.nan], [np.inf, 0.1]], np.float32)
BAD = {
    "text": (b"not an image at all", "not a PNG, JPEG, TIFF or WebP image"),
    "empty": (b"", "not a PNG, JPEG, TIFF or WebP image"),
    "truncated jpeg": (jpeg_cut_short(), "damaged or unsupported"),
    "truncated png": (png16(random_samples(3, 16), 2)[:60], "damaged or unsupported"),
    "nothing but a TIFF header": (b"II*\0\x08\0\0\0", "damaged or unsupported"),
    "nan": (tiff_of(NAN), "2 samples are NaN or infinite"),
    "other units": (tiff_of(np.full((4, 4), 200, np.float32)), r"must be in units of \[0, 1\], got 200..200"),
    "32 bit integers": (tiff_of(np.ones((4, 4), np.uint32)), "got uint32"),
    "two pages": (tiff_of(np.ones((2, 4, 4), np.uint16), photometric="minisblack"), "holds 2 images"),
    "five channels": (tiff_of(np.ones((4, 4, 5), np.uint16), photometric="rgb", planarconfig="contig"), "got 5 channels"),
    "animation": (animation(), "holds 3 images"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path, name):
    data, message = BAD[name]
    (tmp_path / "bad.img").write_bytes(data)
    with pytest.raises(ValueError, match=f"bad.img: .*{message}"):
        read(tmp_path / "bad.img")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.png: there is no such file"):
        read(tmp_path / "no.png")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_megapixel_limit(tmp_path, suffix):
    Image.new("L", (1100, 1000)).save(tmp_path / f"a{suffix}")
    assert read(tmp_path / f"a{suffix}", max_megapixels=1.1).size == (1000, 1100)
    with pytest.raises(ValueError, match=r"1100 x 1000 is 1\.1 megapixels, more than the 1 of --max-megapixels"):
        read(tmp_path / f"a{suffix}", max_megapixels=1.0)


def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    empty = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + empty)
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ValueError, match=r"3600\.0 megapixels"):
        read(tmp_path / "bomb.png")
    assert limit == Image.MAX_IMAGE_PIXELS


def test_formats_that_cannot_hold_it(tmp_path):
    with pytest.raises(ValueError, match=r"suffix must be one of \.png.*got '\.gif'"):
        check_format(tmp_path / "a.gif")
    picture = picture_of(random_samples(4, 8), 8)
    with pytest.raises(ValueError, match="JPEG has no transparency"):
        check_format(tmp_path / "a.jpg", picture)


def test_atomic_write_replaces(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~images._umask()


@pytest.mark.parametrize("failure", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, failure):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(*_):
        raise failure

    monkeypatch.setattr(images.os, "replace", fail)
    with pytest.raises(type(failure)):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]
