"""Reads the lists of 300W-LP, AFLW2000, BIWI and your own, and makes crops and batches of what they name.

Run it to check a data folder, or to fetch the published lists into it first:

    python data_loaders.py --data-dir data
    python data_loaders.py --data-dir data --fetch-lists
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import TypeVar

import util  # noqa: F401, before OpenCV, whose limits it sets

# isort: split
import cv2
import numpy as np
from numpy.typing import ArrayLike

from util.errors import InputError
from util.images import read_image
from util.lists import (
    PATH_LENGTH,
    ListFile,
    Rejected,
    RowError,
    check_box,
    line_of,
    parse_angles,
    parse_box,
    read_rows,
    unusable_rows,
)

# --- Conventions ------------------------------------------------------------------------------------------------------
# Inside the suite angles are in radians, in the order of AXES and in the signs of the published lists:
#   yaw   > 0  turns the nose to the left of the image,
#   pitch > 0  looks up,
#   roll  > 0  tilts the head counter-clockwise in the image (the negative of the `.mat` files' roll).
# Image axes: x to the right, y down, z out of the image towards the viewer.  A head that looks straight into the camera
# has its nose along +z, its chin along +y and its own right eye on the side of -x.
AXES = ("yaw", "pitch", "roll")
LIST_ORDER = ("roll", "pitch", "yaw")  # of the angles in a row of the published angle lists
EULER_ORDER = "R = Rx(pitch) Ry(-yaw) Rz(-roll), list signs; x right, y down, z towards the viewer"

# Images are (height, width, 3) uint8, RGB.
CROP_SIZE = 224  # pixels: side of the network's input
# The authors handed a BGR image to a preprocessor that reverses the channels before it subtracts the means meant for
# BGR: the network sees RGB minus these values, in this order.
CHANNEL_MEANS = (103.939, 116.779, 123.68)


def rotation_matrix(angles: ArrayLike) -> np.ndarray:
    """(..., 3, 3) rotations R of the head, see EULER_ORDER, from (..., 3) yaw, pitch, roll in radians, list signs.

    `R @ (0, 0, 1)` is the direction of the nose.  R derotates the `pt3d_68` landmarks of AFLW2000.
    """
    from scipy.spatial.transform import Rotation

    angles = np.asarray(angles, float)
    pitch_yaw_roll = angles.reshape(-1, 3)[:, [1, 0, 2]] * (1, -1, -1)
    return Rotation.from_euler("XYZ", pitch_yaw_roll).as_matrix().reshape(*angles.shape, 3)


def angles_of(rotation: np.ndarray) -> np.ndarray:
    """The inverse of `rotation_matrix`: (..., 3) yaw, pitch, roll in radians of (..., 3, 3), yaw within ±90°."""
    from scipy.spatial.transform import Rotation

    pitch_yaw_roll = Rotation.from_matrix(np.reshape(rotation, (-1, 3, 3))).as_euler("XYZ")
    return (pitch_yaw_roll * (1, -1, -1))[:, [1, 0, 2]].reshape(*np.shape(rotation)[:-1])


# --- Data sets and splits ---------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class DataSet:
    """A pair of lists: file names, unit, what the published lists hold, and where the images come from."""

    title: str
    crop_list: str
    angle_list: str
    unit: str  # of the angle list: "radians" or "degrees"
    layout: str = "images as listed"  # where the images lie under the data folder
    source: str = ""  # how to get them; "": your own
    rows: int | None = None  # rows of the published lists; None: not known
    usable: int | None = None  # rows with a box and angles; None: not known


_300W_LP = ("300wcrop.txt", "300w_euler_cls.txt", "radians", "300W_LP/*/*.jpg")
_AFLW2000 = ("Aflw2000crop.txt", "Aflw2000_euler_cls.txt", "radians", "AFLW2000/image*.jpg")
_BIWI = ("biwi_rect.txt", "biwi_angle.txt", "degrees", "BIWI/hpdb/NN/frame_*_rgb.png")
_3DDFA = "3DDFA's project page (Zhu et al., CVPR 2016): unpack"
_KINECT = "Biwi Kinect Head Pose Database (Fanelli et al., IJCV 2013): unpack kinect_head_pose_db.tgz into BIWI"
_HEADS = "python synthetic_heads.py --out DIR"
DATA_SETS = {
    "300w-lp": DataSet("300W-LP", *_300W_LP, f"300W-LP, {_3DDFA} 300W-LP.zip into the data folder"),
    "aflw2000": DataSet(
        "AFLW2000", *_AFLW2000, f"AFLW2000-3D, {_3DDFA} AFLW2000-3D.zip into the data folder", rows=1955, usable=1947
    ),
    "biwi": DataSet("BIWI", *_BIWI, _KINECT, rows=15648, usable=15648),
    "synthetic-train": DataSet("synthetic heads, training part", *_300W_LP, _HEADS),
    "synthetic": DataSet("synthetic heads, test part", *_AFLW2000, _HEADS),
}
PAPER_DATA_SETS = ("300w-lp", "aflw2000", "biwi")  # their lists are the published ones

# Who is on which of BIWI's 24 videos: 20 people, four of them recorded twice (02 = 21, 03 = 15, 05 = 18, 07 = 22).
# The table of sequence and subject of the Hugging Face data set `biwi_kinect_head_pose`.
_BIWI_PEOPLE = "F01 F02 F03 F04 F05 F06 M01 M02 M03 M04 M05 M06 M07 M08 F03 M09 M10 F05 M11 M12 F02 M01 M13 M14"
BIWI_PERSON = {f"{video:02d}": person for video, person in enumerate(_BIWI_PEOPLE.split(), start=1)}

# The test videos of the BIWI splits; all others train.  The paper's 16/8 split is unknown, as is FSA-Net's.
BIWI_SPLITS = {
    "17-7": ("02", "07", "09", "14", "15", "19", "20"),  # published; persons of 02, 07 and 15 are in training too
    "17-7-b": ("02", "04", "09", "13", "14", "16", "20"),  # published test list; person of 02 is in training too
    # Ours: person-disjoint, the first draw of scikit-learn's GroupShuffleSplit (7 of 20 persons, random_state 0) that
    # has 8 videos; tests/test_data_loaders.py draws it again.
    "16-8": ("03", "06", "09", "12", "13", "14", "15", "17"),
}
SPLIT_FRAMES = {"17-7": 4647, "17-7-b": 4889, "16-8": 5217}  # test frames of each split in the published lists


# --- From lists to records --------------------------------------------------------------------------------------------
RECORD = [("path", f"U{PATH_LENGTH}"), ("row", "i8"), ("column", "i8"), ("size", "i8"), ("angles", "f8", (3,))]
RECORD += [("video", "U8"), ("person", "U8")]
_VIDEO = re.compile(r"BIWI/hpdb/(\d+)/")


@dataclass(frozen=True)
class Listed:
    """What a pair of lists holds.

    `records` is a structured array of dtype RECORD: the path under the data folder, the square box (top row, left
    column, side, in pixels), `angles` (3,) in radians in the order of AXES and the signs of the lists, and the video
    and the person where they are known ("" where not).
    """

    data_set: DataSet
    data_dir: Path
    records: np.ndarray
    rejected: Rejected
    files: tuple[ListFile, ...] = ()  # the crop list and the angle list
    notes: tuple[str, ...] = ()  # what a reader of a result should know
    missing: int = 0  # images that were listed, absent, and skipped on request
    split: str = "all"  # as printed: "all", "16-8 test"
    usable: tuple[str, ...] = ()  # paths of all usable rows, in order, whatever is left out of `records` later

    @property
    def published(self) -> bool:
        """Whether both lists are the published ones, byte for byte."""
        return bool(self.files) and all(file.published for file in self.files)


def read_lists(
    crop_list: str | Path, angle_list: str | Path, unit: str, data_dir: str | Path, data_set: DataSet | None = None
) -> Listed:
    """Join a list of boxes and a list of angles by the paths of their images.

    Rows of the published lists that cannot be used are counted by reason; in your own lists they are errors, but for
    an image without a box.

    Args:
        crop_list: file of rows `path TAB row column size size`, in pixels; or the path alone: an image without a box.
        angle_list: file of rows `path TAB roll TAB pitch TAB yaw`, in list signs, with or without three class columns.
        unit: of the angles, "radians" or "degrees".
        data_dir: the folder at which the paths start.
        data_set: what the lists are; None: your own.

    Returns:
        `Listed`, in the order of the crop list; its notes say where lists differ from the published ones.

    Raises:
        InputError: your own lists have a malformed row (file and line), name an image twice, or name different images;
            or no row can be used.
    """
    data_set = data_set or DataSet("your own lists", Path(crop_list).name, Path(angle_list).name, unit)
    crops = read_rows(crop_list, parse_box)
    poses = read_rows(angle_list, lambda text, published: parse_angles(text, unit, published))
    rejected = unusable_rows(crops, poses)
    (boxes, crop_file, _), (angles, angle_file, _) = crops, poses
    paths = [path for path, box in boxes.items() if box and path in angles]
    if not paths:
        why = "".join(f"; {len(rows):,} {reason}" for reason, rows in rejected.items())
        raise InputError(f"{crop_list} and {angle_list} hold no image with a box and angles{why}")
    records = np.zeros(len(paths), RECORD)
    records["path"] = paths
    records["row"], records["column"], records["size"] = np.array([boxes[path] for path in paths]).T
    in_list_order = np.array([angles[path] for path in paths])
    records["angles"] = in_list_order[:, [LIST_ORDER.index(axis) for axis in AXES]]
    records["video"] = [match[1] if (match := _VIDEO.match(path)) else "" for path in paths]
    persons = BIWI_PERSON if crop_file.published and angle_file.published else {}
    records["person"] = [persons.get(video, video) for video in records["video"]]
    files = (crop_file, angle_file)
    notes = []
    if data_set in [DATA_SETS[name] for name in PAPER_DATA_SETS]:
        notes += [f"{Path(file.path).name} is not the published list" for file in files if not file.published]
        if data_set.usable and (crop_file.rows, len(paths)) != (data_set.rows, data_set.usable):
            counts = f"the published lists have {data_set.rows:,} rows, {data_set.usable:,} usable"
            notes.append(f"{crop_file.rows:,} rows, {len(paths):,} usable; {counts}")
    if paths != [path for path in angles if boxes.get(path)]:
        notes.append("the two lists name their images in different orders; they were joined by path")
    return Listed(data_set, Path(data_dir), records, rejected, files, tuple(notes), usable=tuple(paths))


def load_data_set(name: str, data_dir: str | Path, split: str = "all", part: str = "test") -> Listed:
    """Read the lists of a data set of DATA_SETS from the data folder or its `lists/`.

    For BIWI, `split` may be a key of BIWI_SPLITS, of which `part` is "train" or "test".

    Raises:
        InputError: lists that are missing or malformed, a split that does not exist or is empty.
    """
    data_set = DATA_SETS[name]
    crop_list, angle_list = (find_list(data_dir, file) for file in (data_set.crop_list, data_set.angle_list))
    listed = read_lists(crop_list, angle_list, data_set.unit, data_dir, data_set)
    return listed if split == "all" else select_split(listed, split, part)


def select_split(listed: Listed, split: str, part: str) -> Listed:
    """The training ("train") or test ("test") videos of a BIWI split."""
    if split not in BIWI_SPLITS or not listed.records["video"].all():
        raise InputError(f"{listed.data_set.title} has no split {split!r}; BIWI has all, {', '.join(BIWI_SPLITS)}")
    chosen = np.isin(listed.records["video"], BIWI_SPLITS[split]) == (part == "test")
    if not chosen.any():
        raise InputError(f"the {part} part of the split {split} is empty: the lists hold none of its videos")
    records = listed.records[chosen]
    return replace(listed, records=records, split=f"{split} {part}", usable=tuple(records["path"].tolist()))


def find_list(data_dir: str | Path, name: str) -> Path:
    """The path of a list in the data folder or in its `lists/`."""
    for path in (Path(data_dir, name), Path(data_dir, "lists", name)):
        if path.is_file():
            return path
    raise InputError(
        f"{name} is neither in {data_dir} nor in {Path(data_dir, 'lists')}; "
        f"get it with: python data_loaders.py --data-dir {data_dir} --fetch-lists"
    )


def image_path(listed: Listed, record: np.void) -> Path:
    """Where the image of a record lies."""
    return listed.data_dir / record["path"]


def box_error(record: np.void, shape: tuple[int, ...]) -> RowError | None:
    """Why the box of a record does not fit an image of this shape; None where it does."""
    try:
        check_box((record["row"], record["column"], record["size"]), *shape[:2])
    except RowError as error:
        return error
    return None


def row_of(listed: Listed, path: str) -> str:
    """Where the box of an image comes from, for messages."""
    file = listed.files[0].path
    return f"{file}, line {line_of(file, path)}, {path}"


def limited(listed: Listed, n: int) -> Listed:
    """At most `n` records, evenly spaced over the list; all of them for n = 0."""
    total = len(listed.records)
    if not 0 < n < total:
        return listed
    chosen = np.linspace(0, total - 1, n).astype(int)
    note = f"limited to {n:,} of {total:,} images, evenly spaced"
    return replace(listed, records=listed.records[chosen], notes=(*listed.notes, note))


# --- From records to crops and batches --------------------------------------------------------------------------------
Batch = tuple[np.ndarray, dict[str, np.ndarray]]  # (b, 224, 224, 3) uint8 RGB crops, and labels


@dataclass(frozen=True)
class Share:
    """What a machine reads of every batch: one of `count` equal, consecutive parts; all of it by default."""

    index: int = 0
    count: int = 1

    def places(self, total: int, batch_size: int) -> np.ndarray:
        """The places of its samples among `total` samples that fill batches, in order."""
        return np.arange(total).reshape(-1, self.count, batch_size // self.count)[:, self.index].ravel()


WHOLE = Share()
Job = TypeVar("Job")
Result = TypeVar("Result")


def crop(image: np.ndarray, row: int, column: int, size: int, margin: float) -> np.ndarray:
    """Cut out a square box, grown by a margin, and resize it to (224, 224, 3); channels keep their order.

    The box grows by `int(size · float32(margin))` pixels on each side; single precision makes 0.3 a little more than
    0.3 and 0.7 a little less.  What lies outside the image is black.

    Args:
        image: (h, w, 3) uint8.
        row, column, size: the top left corner of the box and its side, in pixels.
        margin: γ of the paper's tables, as a share of the side.
    """
    grow = int(int(size) * float(np.float32(margin)))
    top, left, side = int(row) - grow, int(column) - grow, int(size) + 2 * grow
    inside = image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]  # nothing, beside the image
    if inside.shape != (side, side, 3):
        above, before = max(-top, 0), max(-left, 0)
        square = np.zeros((side, side, 3), np.uint8)
        square[above : above + inside.shape[0], before : before + inside.shape[1]] = inside
        inside = square
    return cv2.resize(inside, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR)


VIEWS = {1: (0.0,), 6: (0.0, -0.1, 0.1)}  # crops of a face that are predicted → what is added to their margin


def views_of(image: np.ndarray, row: int, column: int, size: int, margin: float, views: int = 1) -> np.ndarray:
    """One crop of a face, or six: (views, 224, 224, 3).

    The six are those at three margins (none below 0), each followed by its mirror image; the first is the single one.
    """
    crops = [crop(image, row, column, size, max(0.0, margin + more)) for more in VIEWS[views]]
    return np.stack(crops if views == 1 else [view for each in crops for view in (each, each[:, ::-1])])


def listed_image(listed: Listed, record: np.void) -> np.ndarray:
    """The image of a record, (h, w, 3) uint8 RGB.

    Raises:
        InputError: it cannot be read, or the box does not fit it.
    """
    image = read_image(image_path(listed, record))
    if error := box_error(record, image.shape):
        raise InputError(f"{row_of(listed, record['path'])}: {error}")
    return image


def load_crop(listed: Listed, record: np.void, margin: float) -> np.ndarray:
    """The network's input for a record: (224, 224, 3) uint8 RGB."""
    return crop(listed_image(listed, record), record["row"], record["column"], record["size"], margin)


class KeptImages:
    """The decoded images of a list, each cut down to its box with the largest margin, as many as the memory holds."""

    def __init__(self, listed: Listed, max_margin: float, memory: float) -> None:
        self.listed, self.max_margin, self.memory = listed, max_margin, memory
        self.parts: dict[int, tuple[np.ndarray, int, int, int]] = {}  # index → part of the image, and the box in it

    def crop(self, index: int, margin: float) -> np.ndarray:
        """As `load_crop` of the record at an index, for a margin up to the largest."""
        if index in self.parts:
            return crop(*self.parts[index], margin)
        record = self.listed.records[index]
        image = listed_image(self.listed, record)
        row, column, size = (int(record[name]) for name in ("row", "column", "size"))
        reach = int(size * self.max_margin) + 1
        top, left = max(row - reach, 0), max(column - reach, 0)
        part = image[top : row + size + reach, left : column + size + reach]
        if self.memory >= part.nbytes:
            self.memory -= part.nbytes
            self.parts[index] = (part.copy(), row - top, column - left, size)
        return crop(part, row - top, column - left, size, margin)


def labels(angles: np.ndarray) -> dict[str, np.ndarray]:
    """Angles (b, 3) in the order of AXES as the network puts them out: a dict of axis and (b, 1) float32."""
    return {axis: angles[:, index : index + 1].astype("float32") for index, axis in enumerate(AXES)}


def scoring_batches(
    listed: Listed, batch_size: int, margin: float, workers: int, views: int = 1
) -> Iterator[np.ndarray]:
    """Every record once, in order, the last partial batch included: yields (b · views, 224, 224, 3) uint8 RGB crops."""

    def load(record: np.void) -> np.ndarray:
        image = listed_image(listed, record)
        return views_of(image, record["row"], record["column"], record["size"], margin, views)

    crops = in_parallel(load, listed.records, workers, 4 * batch_size)
    while batch := list(islice(crops, batch_size)):
        yield np.concatenate(batch)


def training_batches(
    listed: Listed,
    batch_size: int,
    max_margin: float,
    seed: int,
    workers: int,
    first_epoch: int = 0,
    share: Share = WHOLE,
    first_step: int = 0,
    memory: float = 0,
) -> Iterator[Batch]:
    """Endless shuffled batches: (b, 224, 224, 3) uint8 RGB crops and labels, the same for any number of workers.

    With a share, its part of each of these batches.

    Every epoch has its own order and its own margins U(0, max_margin), both drawn from (seed, epoch); so a run resumed
    at a step of `first_epoch` sees what it would have seen.  Records that do not fill a batch are left out of an epoch.
    Up to `memory` bytes of decoded images are kept for the epochs that follow.
    """
    records, batch_size = listed.records, min(batch_size, len(listed.records))
    images = KeptImages(listed, max_margin, memory)

    def jobs() -> Iterator[tuple[int, float]]:
        for order, rng in shuffled_epochs(listed, batch_size, seed, first_epoch):
            margins, mine = rng.uniform(0, max_margin, len(order)), share.places(len(order), batch_size)
            yield from zip(order[mine], margins[mine], strict=True)

    def load(job: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
        index, margin = job
        return images.crop(index, margin), records[index]["angles"]

    each = batch_size // share.count
    samples = in_parallel(load, islice(jobs(), first_step * each, None), workers, 4 * batch_size)
    while True:
        crops, angles = zip(*islice(samples, each), strict=True)
        yield np.stack(crops), labels(np.stack(angles))


def shuffled_epochs(
    listed: Listed, batch_size: int, seed: int, first_epoch: int
) -> Iterator[tuple[np.ndarray, np.random.Generator]]:
    """For every epoch the order of its records, those that fill batches, and random numbers from (seed, epoch)."""
    used = batches_per_epoch(listed, batch_size) * batch_size
    for epoch in count(first_epoch):
        rng = np.random.default_rng((seed, epoch))
        yield rng.permutation(len(listed.records))[:used], rng


def batches_per_epoch(listed: Listed, batch_size: int) -> int:
    """How many full batches an epoch of training has; one smaller batch where there are fewer records than that."""
    return max(1, len(listed.records) // batch_size)


def in_parallel(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int, ahead: int) -> Iterator[Result]:
    """`function` of every job, in order, at most `ahead` jobs in advance.

    OpenCV releases the GIL while it works; its own threads, which would wait for work on the same cores, are off.
    """
    jobs, opencv_threads = iter(jobs), cv2.getNumThreads()
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(workers) as pool:
        pending = deque(pool.submit(function, job) for job in islice(jobs, ahead))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(function, job) for job in islice(jobs, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
            cv2.setNumThreads(opencv_threads)


if __name__ == "__main__":
    from util.data_folder import main
    from util.script import run_script

    run_script(main)
