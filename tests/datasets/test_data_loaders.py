"""From records to crops and batches: pixels, margins, order."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.lists import read

import data_loaders
from data_loaders import crop
from rafa.datasets.images import read_image
from rafa.datasets.lists import RECORD, Listed, box_of, image_path
from rafa.datasets.sets import DATASETS
from rafa.pose import AXES
from rafa.script import InputError

PARITY = Path(__file__).parents[1] / "parity"

# --- Crops ---


@pytest.mark.parametrize("case", range(20))
def test_crops_are_those_of_the_released_code(case):
    parity = np.load(PARITY / "crops.npz")
    image = cv2.imread(str(PARITY / "crops_image.png"))
    row, column, size, margin = parity["boxes_row_col_size_margin"][case]
    pixels = crop(image, row, column, size, margin)
    np.testing.assert_array_equal(pixels[::4, ::4], parity["crops_bgr_every_4th_pixel"][case])
    assert pixels.sum(dtype=np.int64) == parity["crop_sums"][case]


@pytest.mark.parametrize(
    ("size", "margin", "grow"),
    [
        (40, 0, 0),
        (40, 0.2, 8),
        (35, 0.5, 17),  # 17.5 and
        (39, 0.3, 11),  # 11.7 are cut, not rounded
        (10, 0.3, 3),
        (10, 0.7, 6),  # float32(0.7) is a little less than 0.7
        (10, 0.75, 7),
    ],
)
def test_a_box_grows_by_whole_pixels_cut_from_single_precision(size, margin, grow):
    image = np.random.default_rng(0).integers(0, 256, (120, 130, 3), np.uint8)
    row, column = 30, 50
    square = image[row - grow : row + size + grow, column - grow : column + size + grow]
    np.testing.assert_array_equal(crop(image, row, column, size, margin), cv2.resize(square, (224, 224)))


@pytest.mark.parametrize(("row", "column"), [(60, 0), (0, 60), (-50, 0), (0, -50), (0, -500), (-500, -500), (500, 500)])
def test_a_box_beside_the_image_is_black(row, column):
    assert not crop(np.full((50, 50, 3), 9, np.uint8), row, column, 40, 0.1).any()


@pytest.mark.parametrize(
    ("row", "column", "size"),
    [(-10, -12, 32), (-10, 40, 32), (40, -10, 32), (40, 35, 32), (-10, 5, 32), (-9, -7, 90), (20, -5, 90)],
)
def test_what_lies_outside_the_image_is_black_and_the_rest_is_in_place(row, column, size):
    image = np.random.default_rng(0).integers(1, 256, (60, 50, 3), np.uint8)
    padded = np.pad(image, ((100, 100), (100, 100), (0, 0)))[row + 100 :, column + 100 :][:size, :size]
    np.testing.assert_array_equal(crop(image, row, column, size, 0), cv2.resize(padded, (224, 224)))


def test_the_network_gets_red_first(folder):
    cv2.imwrite(str(folder / "AFLW2000/image00000.png"), np.full((90, 100, 3), (1, 2, 3), np.uint8))
    listed = read(folder)
    assert tuple(data_loaders.load_crop(listed, listed.records[0], 0)[100, 100]) == (3, 2, 1)


def test_a_crop_is_cut_at_the_row_and_column_of_its_box(folder):
    listed = read(folder)
    image = read_image(folder / "AFLW2000/image00002.png")  # box 12 10 60 60, grown by 6
    np.testing.assert_array_equal(
        data_loaders.load_crop(listed, listed.records[2], 0.1), cv2.resize(image[6:78, 4:76], (224, 224))
    )


def test_an_image_that_cannot_be_used_ends_the_scoring_with_its_name(folder):
    (folder / "AFLW2000/image00004.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"line 5, AFLW2000/image00004.png: .*not an image"):
        list(data_loaders.scoring_batches(read(folder), 2, 0.2, 2))


# --- Batches ---


def test_scoring_takes_every_image_in_order_with_the_last_partial_batch(folder):
    listed = read(folder)
    batches = list(data_loaders.scoring_batches(listed, 3, 0.2, 2))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    crops = np.concatenate(batches)
    for record, pixels in zip(listed.records, crops, strict=True):
        np.testing.assert_array_equal(pixels, data_loaders.load_crop(listed, record, 0.2))


def epoch(listed, number=0, max_margin=0.5, **options):
    """The batches of an epoch."""
    images = data_loaders.KeptImages(listed, max_margin)
    defaults = {"batch_size": 2, "seed": 3, "workers": 1}
    return list(data_loaders.training_batches(images, epoch=number, **defaults | options))


def test_training_batches_are_the_same_for_any_number_of_workers(folder):
    listed = read(folder)
    for (crops, targets), (others, other_targets) in zip(epoch(listed), epoch(listed, workers=4), strict=True):
        np.testing.assert_array_equal(crops, others)
        for axis in AXES:
            np.testing.assert_array_equal(targets[axis], other_targets[axis])


def test_the_first_epoch_reads_images_that_fill_no_batch_too(folder):
    listed = read(folder)
    left_out = data_loaders.shuffled(7, 2, 3, 0)[1]
    assert len(left_out) == 1
    image_path(listed, listed.records[left_out[0]]).write_bytes(b"not an image")
    with pytest.raises(InputError, match="not an image"):
        epoch(listed)


def test_images_that_memory_holds_are_read_once_and_give_the_same_crops(folder, monkeypatch):
    listed, read_from = read(folder), []
    count, decode = len(listed.records), data_loaders.listed_image
    monkeypatch.setattr(data_loaders, "listed_image", lambda *which: read_from.append(which) or decode(*which))
    for max_margin in (0.1, 0.5):  # the parts lie inside their images, and reach beyond them
        images, sizes = data_loaders.KeptImages(listed, max_margin, memory=1e9), []
        read_from.clear()
        for margin in (max_margin, 0.0, 0.62 * max_margin):
            for index, record in enumerate(listed.records):
                expected = data_loaders.crop(decode(listed, record), *box_of(record), margin)
                np.testing.assert_array_equal(images.crop(index, margin), expected)
            sizes.append(sum(part.nbytes for part, *_ in images.parts.values()))
        assert all(part.base is None for part, *_ in images.parts.values())  # a view would hold the whole image
        assert len(read_from) == count and sizes[0] == sizes[2] == 1e9 - images.memory > 0

    few = data_loaders.KeptImages(listed, 0.5, memory=sizes[0] - 1)
    for index in (*range(count), *range(count)):
        few.crop(index, 0.2)
    assert 0 < len(few.parts) < count and few.memory >= 0


@pytest.fixture
def shown(monkeypatch):
    """1,003 records, and crops that are just (index of the record, margin)."""
    records = np.zeros(1003, RECORD)
    records["angles"] = np.arange(1003)[:, None] * (1, 10, 100)
    monkeypatch.setattr(data_loaders.KeptImages, "crop", lambda _, index, margin: np.array([index, margin]))
    monkeypatch.setattr(data_loaders, "listed_image", lambda *_: None)
    return Listed(DATASETS["300w-lp"], Path(), records, {})


def test_an_epoch_draws_a_margin_for_every_image_and_the_next_draws_others(shown):
    (first_order, first), (second_order, second) = (
        np.concatenate([crops for crops, _ in epoch(shown, number, batch_size=10)]).T for number in (0, 1)
    )
    for margins in (first, second):
        assert margins.min() >= 0 and margins.max() <= 0.5
        np.testing.assert_allclose(
            np.quantile(margins, [0.01, 0.25, 0.5, 0.75, 0.99]), [0.005, 0.125, 0.25, 0.375, 0.495], atol=0.03
        )
    assert not set(first) & set(second)
    for order in (first_order, second_order):
        assert len(set(order)) == len(order) == 1000  # no image twice
        assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1  # shuffled
    assert (first_order != second_order).mean() > 0.9
    assert set(first_order) != set(second_order)  # which three images an epoch leaves out changes


def test_training_batches_depend_on_the_seed(shown):
    first, again, other = (epoch(shown, seed=seed)[0][0] for seed in (3, 3, 4))
    assert (first != other).any()
    np.testing.assert_array_equal(first, again)


def test_a_largest_margin_of_0_leaves_the_boxes_as_they_are(shown):
    assert not epoch(shown, batch_size=100, max_margin=0)[0][0][:, 1].any()


def test_every_crop_has_the_angles_of_its_image(shown):
    for crops, targets in epoch(shown, batch_size=4, workers=3):
        for axis, factor in zip(AXES, (1, 10, 100), strict=True):
            assert targets[axis].shape == (4, 1) and targets[axis].dtype == np.float32
            np.testing.assert_array_equal(targets[axis][:, 0], factor * crops[:, 0])


def test_fewer_images_than_a_batch_make_one_smaller_batch(folder):
    assert [data_loaders.batches_per_epoch(7, size) for size in (1, 2, 7, 8)] == [7, 3, 1, 1]
    assert [len(crops) for crops, _ in epoch(read(folder), batch_size=16)] == [7]


def test_opencvs_own_threads_are_off_while_ours_work():
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        assert list(data_loaders.in_parallel(lambda _: cv2.getNumThreads(), range(3), 2, 2)) == [1, 1, 1]
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
