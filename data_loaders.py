"""Published lists → records → crops → batches, for 300W-LP, AFLW2000, BIWI and lists of one's own.

Run it to check a data folder, or to fetch the published lists:

    python data_loaders.py --data-dir data
    python data_loaders.py --data-dir data --fetch-lists
"""

import argparse
import hashlib
import http.client
import os
import re
import sys
import urllib.request
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from util.errors import InputError

# --- Conventions ------------------------------------------------------------------------------------------------------
# Everything inside the suite is in radians, in the axis order of AXES and in the signs of the published lists:
#   yaw   > 0  turns the nose to the left of the picture,
#   pitch > 0  looks up,
#   roll  > 0  tilts the head counter-clockwise in the picture (the negative of the `.mat` files' roll).
# Rotations act on the image axes: x to the right, y down, z out of the picture towards the viewer.  A head that looks
# straight into the camera has its nose along +z, its chin along +y and its own right eye on the side of -x.
AXES = ("yaw", "pitch", "roll")
LIST_ORDER = ("roll", "pitch", "yaw")  # the order of the angles in a row of the published angle lists
EULER_ORDER = "XYZ"  # intrinsic: R = Rx(pitch) Ry(yaw) Rz(roll) in list signs, x mirrored; see rotation_matrix
CROP_SIZE = 224  # pixels: side of the network's input
# Means of the three channels of ImageNet, in the order blue, green, red.  The released code subtracts them from RGB
# images in this order, and so does the network's first layer.
CHANNEL_MEANS = (103.939, 116.779, 123.68)
_MIRROR_X = np.diag([-1.0, 1.0, 1.0])


def rotation_matrix(angles):
    """Rotation of the head in image axes (x right, y down, z towards the viewer).

    `R @ (0, 0, 1)` is the direction of the nose; the columns are the head's own axes.  In the signs of the `.mat`
    files this is Rx(pitch) Ry(-yaw) Rz(roll), which derotates the `pt3d_68` landmarks of AFLW2000.

    Args:
        angles: (..., 3) yaw, pitch, roll in radians, list signs.

    Returns:
        (..., 3, 3) rotation matrices.
    """
    angles = np.asarray(angles, float)
    matrices = _rotation(angles.reshape(-1, 3)).as_matrix()
    return (_MIRROR_X @ matrices @ _MIRROR_X).reshape(*angles.shape[:-1], 3, 3)


def rotation_angles(matrices):
    """The inverse of `rotation_matrix`: (..., 3, 3) → (..., 3) yaw, pitch, roll in radians, list signs."""
    from scipy.spatial.transform import Rotation

    matrices = np.asarray(matrices, float)
    mirrored = _MIRROR_X @ matrices.reshape(-1, 3, 3) @ _MIRROR_X
    pitch, yaw, roll = Rotation.from_matrix(mirrored).as_euler(EULER_ORDER).T
    return np.stack([yaw, pitch, roll], axis=-1).reshape(*matrices.shape[:-2], 3)


def _rotation(angles):
    """Scipy's `Rotation` of (n, 3) yaw, pitch, roll in list signs (x mirrored against the image axes)."""
    from scipy.spatial.transform import Rotation

    yaw, pitch, roll = angles.T
    return Rotation.from_euler(EULER_ORDER, np.stack([pitch, yaw, roll], axis=-1))


# --- Data sets and splits ---------------------------------------------------------------------------------------------

# The six published lists, in the state in which they were published, and the git blob ids that recognise them.
PUBLISHED_LISTS = "https://raw.githubusercontent.com/MingzhenShao/HeadPose/cf42054bf048ec7b837d2dbb4282d6f1ea800730/"
PUBLISHED_BLOBS = {
    "300wcrop.txt": "e73f6105d07e0ff186ab99b766562d3462c2f808",
    "300w_euler_cls.txt": "56a93b39a8d779fd25ed5d6e405dad4062d0128b",
    "Aflw2000crop.txt": "0f3050d79514b205af810b00f9f2384f515be9ff",
    "Aflw2000_euler_cls.txt": "d48f7384c43e2ba6362239c6315abd1e0d2b04b5",
    "biwi_rect.txt": "2b434fdc1fcd616b04d27a3f0e605e74e248098a",
    "biwi_angle.txt": "2dc6bc43004b2fefc96fa65553838f05dda78e34",
}


@dataclass(frozen=True)
class DataSet:
    """A pair of lists: its file names, its unit, what the published lists hold, and where the pictures come from."""

    title: str
    crop_list: str
    angle_list: str
    unit: str  # of the angle list: "radians" or "degrees"
    layout: str  # where the pictures lie under the data folder
    source: str  # how to get them
    rows: int | None = None  # lines of the published lists; None: not known
    usable: int | None = None  # rows with a box and angles; None: not known
    # Rows that only one of the lists names are counted as rejected instead of refused.  For 300W-LP, whose published
    # lists nobody here has seen: they are known to be shorter than the data set.
    allow_unpaired: bool = False


_LP_SOURCE = "300W-LP, 3DDFA's project page (Zhu et al., CVPR 2016): unpack 300W-LP.zip into the data folder"
_GENERATED = "python synthetic_heads.py --out DIR"
DATA_SETS = {
    "300w-lp": DataSet(
        "300W-LP", "300wcrop.txt", "300w_euler_cls.txt", "radians", "300W_LP/*/*.jpg", _LP_SOURCE, allow_unpaired=True
    ),
    "aflw2000": DataSet(
        "AFLW2000",
        "Aflw2000crop.txt",
        "Aflw2000_euler_cls.txt",
        "radians",
        "AFLW2000/image*.jpg",
        "AFLW2000-3D, 3DDFA's project page (Zhu et al., CVPR 2016): unpack AFLW2000-3D.zip into the data folder",
        rows=1955,
        usable=1947,
    ),
    "biwi": DataSet(
        "BIWI",
        "biwi_rect.txt",
        "biwi_angle.txt",
        "degrees",
        "BIWI/hpdb/NN/frame_*_rgb.png",
        "Biwi Kinect Head Pose Database (Fanelli et al., IJCV 2013): unpack kinect_head_pose_db.tgz into DATA/BIWI",
        rows=15648,
        usable=15648,
    ),
    "synthetic-train": DataSet(
        "generated heads, training part", "300wcrop.txt", "300w_euler_cls.txt", "radians", "300W_LP/*/*.jpg", _GENERATED
    ),
    "synthetic": DataSet(
        "generated heads, test part",
        "Aflw2000crop.txt",
        "Aflw2000_euler_cls.txt",
        "radians",
        "AFLW2000/image*.jpg",
        _GENERATED,
    ),
}

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


# --- Lists → records --------------------------------------------------------------------------------------------------

RECORD = [("path", "U160"), ("row", "i8"), ("column", "i8"), ("size", "i8"), ("angles", "f8", (3,)), ("video", "U8")]
RECORD += [("person", "U8")]
_PICTURE = re.compile(r".*\.(jpe?g|png|bmp|tiff?|webp)", re.IGNORECASE)
_VIDEO = re.compile(r"BIWI/hpdb/(\d+)/")


@dataclass(frozen=True)
class ListFile:
    """A list as it was read: its path, its number of rows, its SHA-256 and whether it is the published one."""

    path: str
    rows: int
    sha256: str
    published: bool


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
    rejected: dict  # reason → paths of the rows that cannot be used
    files: tuple = ()  # of ListFile: the crop list and the angle list
    notes: tuple = ()  # what a reader of the result should know
    missing: int = 0  # pictures that were listed and absent, and were left out on request
    split: str = field(default="all")

    @property
    def published(self):
        """Whether both lists are the published ones, byte for byte."""
        return all(file.published for file in self.files)


def read_lists(crop_list, angle_list, unit, data_dir, data_set=None):
    """Join a list of boxes and a list of angles by the names of their pictures.

    Args:
        crop_list: file of rows `path TAB row column size size`; a row with a picture and no box is counted as rejected.
        angle_list: file of rows `path TAB roll TAB pitch TAB yaw`, in list signs, with or without three class columns.
        unit: of the angles, "radians" or "degrees".
        data_dir: the folder at which the paths start.

    Returns:
        `Listed`, in the order of the crop list.

    Raises:
        InputError: a malformed row (file and line), a picture named twice, lists that name different pictures.
    """
    crop_list, angle_list = Path(crop_list), Path(angle_list)
    data_set = data_set or DataSet("one's own lists", crop_list.name, angle_list.name, unit, "as listed", "your own")
    boxes, crop_file = read_rows(crop_list, parse_box)
    angles, angle_file = read_rows(angle_list, lambda text: _parse_angles(text, unit))
    rejected = {"no box": [path for path, box in boxes.items() if box is None]}
    rejected["not in the angle list"] = [path for path in boxes if path not in angles]
    rejected["not in the crop list"] = [path for path in angles if path not in boxes]
    unpaired = rejected["not in the angle list"] + rejected["not in the crop list"]
    if unpaired and not data_set.allow_unpaired:
        raise InputError(
            f"{crop_list} and {angle_list} disagree: {len(rejected['not in the angle list'])} pictures are only in the "
            f"first, {len(rejected['not in the crop list'])} only in the second ({', '.join(unpaired[:3])}, ...); "
            "both lists must name the same pictures"
        )
    paths = [path for path, box in boxes.items() if box is not None and path in angles]
    if not paths:
        raise InputError(f"{crop_list} and {angle_list} hold no row with a box and angles")
    notes = []
    if not unpaired and list(boxes) != list(angles):
        notes.append("the two lists name their pictures in different orders; they were joined by name")
    records = np.zeros(len(paths), RECORD)
    records["path"] = paths
    for index, name in enumerate(("row", "column", "size")):
        records[name] = [boxes[path][index] for path in paths]
    records["angles"] = [angles[path] for path in paths]
    videos = [_VIDEO.match(path) for path in paths]
    records["video"] = [match[1] if match else "" for match in videos]
    files = (crop_file, angle_file)
    known = BIWI_PERSON if all(file.published for file in files) else {}
    records["person"] = [known.get(video, video) for video in records["video"]]
    rejected = {reason: rows for reason, rows in rejected.items() if rows}
    return Listed(data_set, Path(data_dir), records, rejected, files, tuple(notes))


def read_rows(file, parse):
    """The rows of a list as a dict path → parsed values, in the list's order, and what file it was."""
    try:
        content = file.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"{file}: the list cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a text file: {error}") from error
    rows, seen = {}, {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        path, _, text = line.partition("\t")
        try:
            path = _picture_path(path)
            values = parse(text)
        except ValueError as error:
            raise InputError(f"{file}, line {number}: {error}; got {line.strip()!r}") from error
        if path in rows:
            raise InputError(f"{file}, line {number}: {path} stands in line {seen[path]} already; name it once")
        rows[path], seen[path] = values, number
    published = PUBLISHED_BLOBS.get(file.name) == blob_id(content)
    return rows, ListFile(str(file), len(rows), hashlib.sha256(content).hexdigest(), published)


def _picture_path(text):
    path = PurePosixPath(text.strip())
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("a picture's path must start at the data folder and stay in it")
    if not _PICTURE.fullmatch(path.name):
        raise ValueError("expected the path of a picture and then a tab")
    if len(str(path)) > 160:
        raise ValueError("a picture's path may have 160 characters at most")
    return str(path)


def parse_box(text):
    """(row, column, size) in pixels of a crop list's row; None where it has no box; ValueError if it is malformed."""
    fields = text.split()
    if not fields:
        return None
    if len(fields) != 4 or not all(re.fullmatch(r"-?\d{1,6}", value) for value in fields):
        raise ValueError("expected a box of four whole numbers, row column size size")
    row, column, size, again = map(int, fields)
    if size != again or size <= 0:
        raise ValueError("expected a square box of positive size")
    return row, column, size


def _parse_angles(text, unit):
    fields = text.split()
    if len(fields) not in (3, 6):
        raise ValueError("expected roll, pitch and yaw, and three class columns or none")
    given = dict(zip(LIST_ORDER, map(float, fields[:3]), strict=True))
    angles = np.array([given[axis] for axis in AXES])
    if not np.isfinite(angles).all():
        raise ValueError("expected finite angles")
    if unit == "degrees":
        angles = np.radians(angles)
    if np.abs(angles).max() > 2 * np.pi:
        raise ValueError(f"an angle of {np.degrees(np.abs(angles).max()):.0f} degrees; is the unit really {unit}?")
    return angles


def load_data_set(name, data_dir, split="all", part="test"):
    """Read the lists of a registered data set from `data_dir` or its `lists/`, and compare their counts.

    Args:
        name: a key of DATA_SETS.
        split: "all", or for BIWI a key of BIWI_SPLITS.
        part: "train" or "test", of a split.

    Returns:
        `Listed`; its notes say where the lists differ from the published ones.

    Raises:
        InputError: lists that are missing or malformed, a split that does not exist or is empty.
    """
    data_set = DATA_SETS[name]
    crop_list, angle_list = (find_list(data_dir, file) for file in (data_set.crop_list, data_set.angle_list))
    listed = read_lists(crop_list, angle_list, data_set.unit, data_dir, data_set)
    notes = list(listed.notes)
    if not name.startswith("synthetic"):
        notes += [f"{Path(file.path).name} is not the published list" for file in listed.files if not file.published]
    found, expected = (listed.files[0].rows, len(listed.records)), (data_set.rows, data_set.usable)
    if data_set.usable and found != expected:
        notes.append(
            f"{found[0]:,} rows, {found[1]:,} usable; the published lists have {expected[0]:,}, {expected[1]:,}"
        )
    return select_split(replace(listed, notes=tuple(notes)), split, part)


def select_split(listed, split, part):
    """The training or test videos of a BIWI split; all of it for the split "all"."""
    if split == "all":
        return listed
    if split not in BIWI_SPLITS or not listed.records["video"].all():
        raise InputError(f"{listed.data_set.title} has no split {split!r}; BIWI has all, {', '.join(BIWI_SPLITS)}")
    chosen = np.isin(listed.records["video"], BIWI_SPLITS[split]) == (part == "test")
    if not chosen.any():
        raise InputError(f"the {part} part of the split {split} is empty: the lists hold none of its videos")
    return replace(listed, records=listed.records[chosen], split=f"{split} {part}")


def find_list(data_dir, name):
    """The path of a list in the data folder or in its `lists/`."""
    for path in (Path(data_dir, name), Path(data_dir, "lists", name)):
        if path.is_file():
            return path
    raise InputError(
        f"{name} is neither in {data_dir} nor in {Path(data_dir, 'lists')}; "
        f"get it with: python data_loaders.py --data-dir {data_dir} --fetch-lists"
    )


def image_path(listed, record):
    """Where the picture of a record lies."""
    return listed.data_dir / record["path"]


def keep_present(listed, allow_missing=False):
    """Leave out the pictures that are listed and absent, where that is allowed; else they are an error.

    Raises:
        InputError: absent pictures without `allow_missing`, or no picture at all.
    """
    present = np.array([image_path(listed, record).is_file() for record in listed.records])
    absent = listed.records["path"][~present]
    if len(absent) and not (allow_missing and present.any()):
        raise InputError(
            f"{listed.data_set.title}: {len(absent):,} of {len(present):,} listed pictures are not in "
            f"{listed.data_dir} ({', '.join(absent[:3])}{', ...' if len(absent) > 3 else ''})\n"
            f"expected there: {listed.data_set.layout}\nfrom: {listed.data_set.source}"
            + ("" if not present.any() else "\nor go on with those that are there: --allow-missing")
        )
    return replace(listed, records=listed.records[present], missing=len(absent))


def limited(listed: Listed, n: int) -> Listed:
    """At most `n` records, evenly spaced over the list; all of them for n = 0."""
    total = len(listed.records)
    if not 0 < n < total:
        return listed
    chosen = np.linspace(0, total - 1, n).astype(int)
    note = f"limited to {n:,} of {total:,} images, evenly spaced"
    return replace(listed, records=listed.records[chosen], notes=(*listed.notes, note))


# --- Records → crops → batches ----------------------------------------------------------------------------------------

def read_image(path):
    """An image as (height, width, 3) uint8 RGB."""
    try:
        picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error) as error:
        raise InputError(f"{path}: the picture cannot be read: {error}") from error
    if picture is None:
        raise InputError(f"{path}: not a picture that OpenCV can read; get the file again")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def crop(picture, row, column, size, margin):
    """Cut out a square box, grown by a margin, and resize it: (h, w, 3) → (224, 224, 3), same channel order.

    The box grows by `int(size · float32(margin))` pixels on each side; single precision makes 0.3 a little more than
    0.3.  What lies outside the picture is black.

    Args:
        picture: (h, w, 3) uint8.
        row, column: the top left corner of the box, in pixels; size: its side.
        margin: γ, as a share of the side.
    """
    grow = int(int(size) * float(np.float32(margin)))
    top, left, side = int(row) - grow, int(column) - grow, int(size) + 2 * grow
    (first_row, last_row), (first_column, last_column) = np.clip([[top, top + side], [left, left + side]], 0, None)
    square = picture[first_row:last_row, first_column:last_column]
    if square.shape[:2] != (side, side):
        inside, square = square, np.zeros((side, side, 3), np.uint8)
        rows, columns = inside.shape[:2]
        if inside.size:
            square[first_row - top :, first_column - left :][:rows, :columns] = inside
    return cv2.resize(square, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR)


def load_crop(listed, record, margin):
    """The network's input for a record: (224, 224, 3) uint8 RGB."""
    picture = read_image(image_path(listed, record))
    return crop(picture, record["row"], record["column"], record["size"], margin)


def labels(angles):
    """(b, 3) angles in the order of AXES → a dict axis → (b, 1) float32, as the network puts them out."""
    return {axis: angles[:, index : index + 1].astype("float32") for index, axis in enumerate(AXES)}


def scoring_batches(listed, batch_size, margin, workers):
    """Every record once, in order, the last partial batch included: yields (b, 224, 224, 3) uint8 RGB crops."""
    jobs = ((record, margin) for record in listed.records)
    crops = _in_parallel(lambda job: load_crop(listed, *job), jobs, workers, ahead=4 * batch_size)
    while batch := list(islice(crops, batch_size)):
        yield np.stack(batch)


def training_batches(listed, batch_size, max_margin, seed, workers, first_epoch=0):
    """Endless shuffled batches: (b, 224, 224, 3) uint8 RGB crops and labels, the same for any number of workers.

    Every epoch has its own order and its own margins U(0, max_margin), both drawn from (seed, epoch); so a run that
    goes on at `first_epoch` sees what it would have seen.  What does not fill a batch at the end of an epoch waits for
    another epoch's shuffle.
    """
    records = listed.records

    def jobs():
        epoch = first_epoch
        while True:
            rng = np.random.default_rng((seed, epoch))
            order = rng.permutation(len(records))[: batches_per_epoch(listed, batch_size) * batch_size]
            yield from zip(order, rng.uniform(0, max_margin, len(order)), strict=True)
            epoch += 1

    def load(job):
        index, margin = job
        return load_crop(listed, records[index], margin), records[index]["angles"]

    samples = _in_parallel(load, jobs(), workers, ahead=4 * batch_size)
    batch_size = min(batch_size, len(records))
    while True:
        crops, angles = zip(*islice(samples, batch_size), strict=True)
        yield np.stack(crops), labels(np.stack(angles))


def batches_per_epoch(listed, batch_size):
    """How many full batches an epoch of training has; one smaller batch where there are fewer records than that."""
    return max(1, len(listed.records) // batch_size)


def _in_parallel(function, jobs, workers, ahead):
    """`function` of every job, in order, at most `ahead` jobs in advance.  OpenCV lets go of the GIL at work."""
    jobs = iter(jobs)
    with ThreadPoolExecutor(workers) as pool:
        pending = deque(pool.submit(function, job) for job in islice(jobs, ahead))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(function, job) for job in islice(jobs, 1))
                yield result
        finally:
            for future in pending:
                future.cancel()


# --- Checking a data folder, fetching the lists -----------------------------------------------------------------------


def blob_id(content):
    """Git's name for a file's content, so that a download can be recognised."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def fetch_lists(data_dir, base_url=PUBLISHED_LISTS):
    """Download the six published lists into `data_dir`/lists, each verified against its git blob id.

    A list that is there already is kept.  Nothing is written until a download is whole and verified.

    Raises:
        InputError: a list that is there and is another one, a download that failed or was not the published list.
    """
    folder = Path(data_dir, "lists")
    folder.mkdir(parents=True, exist_ok=True)
    for name, expected in PUBLISHED_BLOBS.items():
        target = folder / name
        if target.exists():
            if blob_id(target.read_bytes()) != expected:
                raise InputError(f"{target} is there and is not the published list; move it away to fetch that one")
            print(f"{name}: there already")
            continue
        try:
            with urllib.request.urlopen(base_url + name, timeout=60) as response:
                content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise InputError(f"{base_url + name} could not be downloaded: {error!r}; try again") from error
        if blob_id(content) != expected:
            raise InputError(
                f"{base_url + name} is not the published list: git blob {blob_id(content)}, expected {expected}; "
                "nothing was written"
            )
        part = target.with_suffix(".part")
        part.write_bytes(content)
        os.replace(part, target)
        print(f"{name}: fetched and verified, {len(content):,} bytes")


def check_data_folder(data_dir):
    """Print what of 300W-LP, AFLW2000 and BIWI is in a data folder; True if all of it is."""
    complete = True
    for name in ("300w-lp", "aflw2000", "biwi"):
        print(f"{DATA_SETS[name].title}")
        try:
            listed = load_data_set(name, data_dir)
        except InputError as error:
            complete = False
            print(f"  {error}")
            continue
        rows, usable = listed.files[0].rows, len(listed.records)
        rejected = ", ".join(f"{len(paths):,} {reason}" for reason, paths in listed.rejected.items()) or "none rejected"
        print(f"  lists: {rows:,} rows, {usable:,} usable ({rejected})")
        for note in listed.notes:
            print(f"  note: {note}")
        absent = sum(not image_path(listed, record).is_file() for record in listed.records)
        print(f"  pictures: {usable - absent:,} of {usable:,} are there")
        if absent:
            complete = False
            print(f"  expected: {listed.data_set.layout}\n  from: {listed.data_set.source}")
    return complete


def main():
    """Check a data folder from the command line; exit status 1 if something is missing."""
    parser = argparse.ArgumentParser(description="Check a data folder, or fetch the published lists into it.")
    parser.add_argument("--data-dir", default="data", help="folder with 300W_LP, AFLW2000, BIWI and the lists (data)")
    parser.add_argument(
        "--fetch-lists",
        nargs="?",
        const=PUBLISHED_LISTS,
        metavar="URL",
        help="first download the six published lists into its lists/, from GitHub or a mirror",
    )
    options = parser.parse_args()
    try:
        if options.fetch_lists:
            fetch_lists(options.data_dir, options.fetch_lists.rstrip("/") + "/")
        sys.exit(0 if check_data_folder(options.data_dir) else 1)
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
