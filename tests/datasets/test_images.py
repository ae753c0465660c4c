"""An image's announced size is checked before it is decoded; damaged images are found."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import pytest
from helpers.images import NOISE, with_gap, write_image

from rafa.datasets import images
from rafa.datasets.images import (
    announced_shape,
    decode_all,
    decoder_messages,
    files_below,
    read_image,
    warnings_are_seen,
)
from rafa.script import InputError

ROOT = Path(images.__file__).parents[2]


def vast_png(path, width=30_000, height=30_000):
    """A PNG of a few kilobytes at most that announces a vast black image of one bit a pixel."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    return path


def test_an_image_that_announces_too_many_pixels_is_refused_without_decoding_it(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    path = vast_png(tmp_path / "vast.png")
    with pytest.raises(InputError, match=r"vast\.png: the header announces 30,000 × 30,000 pixels; expected at most"):
        read_image(path)


def test_an_image_is_not_too_large_because_its_header_is_damaged(tmp_path):
    path = vast_png(tmp_path / "vast.png")
    content = path.read_bytes()
    path.write_bytes(content[:33] + b"\0\0\0\1tEXt" + b"wrong" + content[33:])  # a text whose checksum is wrong
    assert announced_shape(path) is None
    code = f"import data_loaders; data_loaders.read_image({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "InputError: " in done.stderr and "too large for OpenCV" in done.stderr


def test_the_largest_image_is_allowed(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", images.np.zeros((4, 5, 3), "uint8"))[1].tobytes())
    monkeypatch.setattr(images, "LARGEST_IMAGE", 20)
    assert read_image(path).shape == (4, 5, 3)
    monkeypatch.setattr(images, "LARGEST_IMAGE", 19)
    with pytest.raises(InputError, match="make it smaller"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tiff", "webp", "ppm", "avif"])
def test_the_header_of_every_format_is_read(suffix, tmp_path):
    content = cv2.imencode(f".{suffix}", images.np.zeros((4, 6, 3), "uint8"))[1]
    assert announced_shape(tmp_path / "not there", content) == (4, 6)


def test_what_is_no_image_announces_nothing(tmp_path):
    path = tmp_path / "a.png"
    for content in (b"", b"text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM" + bytes(60)):
        path.write_bytes(content)
        assert announced_shape(path) is None
    assert announced_shape(tmp_path / "absent.png") is None


def test_linked_folders_are_searched_once_and_broken_links_are_kept(tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "other"
    for path in (folder / "a.png", folder / "c/a.png", other / "a.png"):
        write_image(path)
    (folder / "b").symlink_to(other)
    (other / "back").symlink_to(folder)  # and so on without an end
    (folder / "lost.png").symlink_to(tmp_path / "nowhere.png")
    found = [str(path.relative_to(folder)) for path in files_below(folder)]
    assert found == ["a.png", "b/a.png", "c/a.png", "lost.png"]


@pytest.mark.parametrize("together", [512, 2])
def test_images_that_cannot_be_read_and_those_whose_decoder_warns_are_named(together, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(images, "_TOGETHER", together)
    paths = [write_image(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.png", "d.jpg", "e.png")]
    paths[1].write_bytes(with_gap(paths[1].read_bytes()))
    assert read_image(paths[1]).shape == NOISE.shape  # OpenCV reads it and says nothing
    assert "premature end of data segment" in capfd.readouterr().err
    paths[3].write_bytes(b"text")
    paths[4].write_bytes(paths[4].read_bytes()[:-200])  # libpng complains of what it cannot read, too
    unreadable, warned = decode_all([*paths, tmp_path / "absent.jpg"])
    assert warned == {paths[1]: "Corrupt JPEG data: premature end of data segment"}
    assert list(unreadable) == [paths[3], paths[4], tmp_path / "absent.jpg"]
    assert unreadable[paths[3]] == "not an image that OpenCV can read; get the file again"
    assert capfd.readouterr().err == ""


def test_the_standard_error_is_given_back(capfd):
    with decoder_messages() as printed:
        os.write(2, b"a warning\n")
    os.write(2, b"another\n")
    assert printed == ["a warning"] and capfd.readouterr().err == "another\n"


def test_whether_warnings_can_be_seen_is_tried(monkeypatch):
    assert warnings_are_seen()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    assert not warnings_are_seen.__wrapped__()
