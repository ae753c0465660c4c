"""Images and videos are shown as a player shows them, and what is damaged or cut off is said to be so."""

import io
import itertools
import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from helpers.images import NOISE, noisy_video, write_film
from PIL import Image

from rafa.media import decoding
from rafa.media.decoding import MAGIC, decode_image, is_image, read_video
from rafa.script import InputError

ASYMMETRIC = np.zeros((48, 64, 3), np.uint8)  # each corner has a colour of its own
ASYMMETRIC[:24, :32], ASYMMETRIC[:24, 32:], ASYMMETRIC[24:, :32] = (250, 0, 0), (0, 250, 0), (0, 0, 250)


def encoded(image, form, **options):
    """The bytes of a file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, form, **options)
    return stream.getvalue()


def far_apart(first, second):
    """Share of the pixels that differ visibly."""
    return (np.abs(first.astype(int) - second) > 40).any(axis=-1).mean() if first.shape == second.shape else 1


# --- Images -----------------------------------------------------------------------------------------------------------
TURNS = {  # EXIF orientation → the image as it is shown
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    8: np.rot90,
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_images_are_turned_as_their_files_ask(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    is_image(b"")  # loads the readers and writers, HEIF's too
    content = encoded(ASYMMETRIC, form, exif=exif.tobytes() if form != "TIFF" else exif)
    assert is_image(content[:MAGIC])
    assert far_apart(decode_image(content), TURNS[orientation](ASYMMETRIC)) < 0.1


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm"])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_images_of_ten_to_sixteen_bits_are_those_of_eight(suffix, bits):
    deep = NOISE.astype(np.uint16) << (bits - 8)
    assert (decode_image(cv2.imencode(suffix, deep[..., ::-1])[1].tobytes()) == NOISE).all()
    grey = cv2.imencode(".png", deep[..., 0])[1].tobytes()
    assert (decode_image(grey) == NOISE[..., :1]).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_a_deep_image_is_turned_too(form):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(ASYMMETRIC[..., 0].astype(np.uint16) * 257, form, exif=exif)
    assert (decode_image(content)[..., 0] == np.rot90(ASYMMETRIC[..., 0], -1)).all()


def test_other_forms_of_colour_become_rgb():
    for image, tolerance in ((Image.fromarray(NOISE).convert("CMYK"), 9), (Image.fromarray(NOISE[..., 0]), 9)):
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=100)
        expected = NOISE if image.mode == "CMYK" else NOISE[..., :1]
        assert np.abs(decode_image(stream.getvalue()).astype(int) - expected).max() < tolerance
    transparent = np.dstack([NOISE, NOISE[..., 0]])
    assert (decode_image(encoded(transparent, "PNG")) == NOISE).all()


def test_the_pixels_of_a_jpeg_are_those_that_networks_are_trained_on():
    content = encoded(NOISE, "JPEG")
    assert (decode_image(content) == cv2.imdecode(np.frombuffer(content, np.uint8), 1)[..., ::-1]).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an image"),
        (b"no image at all", "not an image"),
        (encoded(NOISE, "JPEG")[:3000], "cut off"),
        (encoded(NOISE, "PNG")[:3000], "cut off"),
        (encoded(np.zeros((2, 10_001), bool), "PNG"), "10,001 × 2 pixels"),
    ],
)
def test_what_is_no_whole_image_is_refused(content, words, monkeypatch):
    monkeypatch.setattr(decoding, "LARGEST_IMAGE", 20_000)
    with pytest.raises(InputError, match=words):
        decode_image(content)


def test_whatever_a_reader_raises_is_one_line(monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("Missing or empty image item")

    monkeypatch.setattr(decoding.Image, "open", broken)
    with pytest.raises(InputError, match="damaged or cut off: Missing"):
        decode_image(encoded(NOISE, "JPEG"))


def test_the_largest_images_of_phones_are_no_bomb_for_pillow():
    is_image(b"")
    assert Image.MAX_IMAGE_PIXELS >= decoding.LARGEST_IMAGE


@pytest.mark.parametrize(("kind", "channels"), [("P5", 1), ("P6", 3)])
@pytest.mark.parametrize("largest", [100, 255, 300, 4095, 65535])
def test_the_largest_value_of_a_netpbm_image_is_white(kind, channels, largest):
    values = np.array([0, largest // 2, largest], np.uint16).repeat(channels)
    pixels = values.astype(np.uint8 if largest < 256 else ">u2").tobytes()
    image = decode_image(f"{kind}\n3 1\n{largest}\n".encode() + pixels)
    assert np.abs(image[0, :, 0].astype(int) - (0, 127, 255)).max() <= 2


def test_a_tiff_of_packed_12_bits_is_refused():
    content = bytearray(encoded(NOISE[..., 0].astype(np.uint16), "TIFF"))
    place = content.index(struct.pack("<HHIH", 258, 3, 1, 16)) + 8  # BitsPerSample
    content[place] = 12
    with pytest.raises(InputError, match="12 bits"):
        decode_image(bytes(content))


@pytest.mark.parametrize(("form", "tags"), [(np.uint32, {}), (np.uint16, {262: 0})])
def test_tiffs_that_would_be_read_wrongly_are_refused(form, tags):
    with pytest.raises(InputError, match="convert it to 8 bits"):
        decode_image(
            encoded(
                NOISE[..., 0].astype(form) if form == np.uint16 else NOISE[..., 0].astype(np.int32),
                "TIFF",
                tiffinfo=tags,
            )
        )


# --- Videos -----------------------------------------------------------------------------------------------------------
def shown(path):
    return list(read_video(str(path)))


@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=2)))
@pytest.mark.parametrize("exchanged", [False, True])
def test_videos_are_turned_and_mirrored_as_their_matrix_asks(tmp_path, signs, exchanged):
    across, down = signs
    a, b, c, d = (0, down, across, 0) if exchanged else (across, 0, 0, down)
    film = write_film(tmp_path / "v.mp4", [ASYMMETRIC] * 3, [0, 0.1, 0.2], (a, b, 0, c, d, 0, 0, 0, 1))
    for frame in shown(film):
        height, width = frame.image.shape[:2]
        assert (height, width) == ((64, 48) if exchanged else (48, 64))
        for row, column in itertools.product((4, 43), (4, 59)):  # of the stored image, around its middle
            x, y = column - 31.5, row - 23.5
            place = round(b * x + d * y + (height - 1) / 2), round(a * x + c * y + (width - 1) / 2)
            assert np.abs(frame.image[place].astype(int) - ASYMMETRIC[row, column]).max() < 12


def test_oblong_pixels_are_made_square(tmp_path):
    film = write_film(tmp_path / "v.mp4", [ASYMMETRIC] * 2, [0, 0.1], aspect=Fraction(3, 2))
    assert [frame.image.shape for frame in shown(film)] == [(48, 96, 3)] * 2
    assert far_apart(shown(film)[0].image, cv2.resize(ASYMMETRIC, (96, 48))) < 0.1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_frames_have_the_times_of_the_video(tmp_path, suffix):
    times = [0, 0.1, 0.4, 0.45, 0.9]
    film = write_film(tmp_path / f"v{suffix}", [np.roll(NOISE, 9 * k, axis=1) for k in range(5)], times)
    frames = shown(film)
    assert [frame.seconds for frame in frames] == pytest.approx(times, abs=0.002)
    for number, frame in enumerate(frames):
        assert np.abs(frame.image.astype(int) - np.roll(NOISE, 9 * number, axis=1)).mean() < 4


def test_a_gif_is_a_video_whose_frames_have_their_own_times(tmp_path):
    images = [Image.fromarray(np.roll(NOISE, 9 * number, axis=1)) for number in range(4)]
    images[0].save(tmp_path / "v.gif", save_all=True, append_images=images[1:], duration=[100, 300, 50, 500])
    assert [frame.seconds for frame in shown(tmp_path / "v.gif")] == pytest.approx([0, 0.1, 0.4, 0.45])
    assert not is_image((tmp_path / "v.gif").read_bytes()[:MAGIC])


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_a_video_that_was_cut_off_gives_its_frames_and_then_an_error(tmp_path, suffix):
    path, rng = tmp_path / f"v{suffix}", np.random.default_rng(0)
    if suffix == ".avi":
        noisy_video(path, 30)
    else:
        frames = [cv2.resize(rng.integers(0, 256, (9, 12, 3), np.uint8), (160, 120)) for _ in range(30)]
        write_film(path, frames, [number / 10 for number in range(30)])
    assert len(shown(path)) == 30
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    count = 0
    with pytest.raises(InputError, match="cut off"):
        for _ in read_video(str(path)):
            count += 1
    assert 8 < count < 22


def test_half_a_stream_gives_its_whole_frames_and_then_an_error_but_may_begin_late(tmp_path):
    path, rng = tmp_path / "v.ts", np.random.default_rng(0)
    frames = [cv2.resize(rng.integers(0, 256, (9, 12, 3), np.uint8), (160, 120)) for _ in range(30)]
    content = write_film(path, frames, [number / 10 for number in range(30)]).read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[middle:])
    assert 8 < len(shown(path)) < 22
    path.write_bytes(content[:middle])
    whole = []
    with pytest.raises(InputError, match="cut off"):
        for frame in read_video(str(path)):
            whole.append(frame.image)
    assert 8 < len(whole) < 22
    for image, original in zip(whole, frames, strict=False):  # the last one, of which a part came, is not among them
        assert np.abs(image.astype(int) - original).mean() < 5


def test_a_trimmed_video_is_no_cut_off_one(tmp_path):
    film = write_film(
        tmp_path / "v.mp4", [np.roll(NOISE, 9 * k, axis=1) for k in range(30)], [k / 10 for k in range(30)]
    )
    content = bytearray(film.read_bytes())
    for box, skip in ((b"mvhd", 20), (b"tkhd", 24), (b"elst", 12)):  # phones leave the frames and change the durations
        place = content.find(box) + skip
        content[place : place + 4] = struct.pack(">I", 1000)
    film.write_bytes(content)
    assert [frame.seconds for frame in shown(film)] == pytest.approx([k / 10 for k in range(10)])


def test_a_sound_that_goes_on_is_no_cut(tmp_path):
    with av.open(str(tmp_path / "v.mkv"), "w") as film:
        video, audio = film.add_stream("libx264", rate=10), film.add_stream("aac", rate=8000)
        video.height, video.width, video.pix_fmt = 120, 160, "yuv420p"
        for _ in range(5):
            film.mux(video.encode(av.VideoFrame.from_ndarray(NOISE, format="rgb24")))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 24000), np.float32), format="fltp", layout="mono")
        silence.rate = 8000
        for stream, last in ((video, None), (audio, silence), (audio, None)):
            film.mux(stream.encode(last))
    assert len(shown(tmp_path / "v.mkv")) == 5


def test_a_title_in_another_encoding_is_no_obstacle(tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as film:
        film.metadata["title"] = "Mueller"
        video = film.add_stream("libx264", rate=10)
        video.height, video.width, video.pix_fmt = 120, 160, "yuv420p"
        film.mux(video.encode(av.VideoFrame.from_ndarray(NOISE, format="rgb24")))
        film.mux(video.encode(None))
    path.write_bytes(path.read_bytes().replace(b"Mueller", b"M\xfcller "))
    assert len(shown(path)) == 1


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"not a video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("v.mp4", "empty.mp4", "none.mp4"):
        with pytest.raises(InputError, match="not a video or image"):
            shown(tmp_path / name)
