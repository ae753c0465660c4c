"""Reading images and finding them in folders."""

import numpy as np
import pytest
from helpers.images import NOISE, read_rgb, write_image
from PIL import Image

from rafa.datasets.images import files_below, read_image
from rafa.script import InputError


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tiff", "webp"])
def test_an_image_is_read_as_rgb_whatever_its_format_and_its_name(suffix, tmp_path):
    path = write_image(tmp_path / f"Ж é 人.{suffix}", NOISE)
    np.testing.assert_array_equal(read_image(path), read_rgb(path))
    assert read_image(write_image(tmp_path / f"grey.{suffix}", NOISE[..., 0])).shape == NOISE.shape


def test_an_image_is_turned_as_its_exif_says(tmp_path):
    turned = Image.Exif()
    turned[0x112] = 6
    Image.new("RGB", (30, 5)).save(tmp_path / "a.jpg", exif=turned)
    assert read_image(tmp_path / "a.jpg").shape == (30, 5, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jpg", b"text", "a.jpg: not an image.*get the file again"),
        ("a.heic", b"text", "a.heic: not an image.*convert it"),
        ("a.jpg", b"", "a.jpg: the image cannot be read: it is empty"),
        ("a.jpg", None, "a.jpg: the image cannot be read: No such file"),
    ],
)
def test_what_cannot_be_read_is_one_error_with_its_name(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_image(tmp_path / name)


def test_linked_folders_are_searched_too(tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "other"
    for path in (folder / "a.png", folder / "c/a.png", other / "a.png"):
        write_image(path)
    (folder / "b").symlink_to(other)
    assert files_below(folder) == [folder / name for name in ("a.png", "b/a.png", "c/a.png")]
