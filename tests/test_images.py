"""An image's announced size is checked before it is decoded."""

import struct
import zlib

import cv2
import pytest

from util import images
from util.errors import InputError
from util.images import announced_shape, read_image


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
