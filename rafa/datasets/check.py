"""What of the lists is in a data folder: absent, misfit and damaged images, and fetching the published lists."""

import http.client
import itertools
import urllib.request
from collections.abc import Container, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import data_loaders
from data_loaders import in_parallel, row_of
from rafa.datasets.annotations import LEAST_OVERLAP, TOLERANCE, compare
from rafa.datasets.images import SUFFIXES, announced_shape, decode_all, files_below, read_image, warnings_are_seen
from rafa.datasets.lists import PUBLISHED_BLOBS, Listed, RowError, blob_id, box_error, image_path, load_dataset
from rafa.datasets.sets import DATASETS, PAPER_DATASETS
from rafa.files import written_whole
from rafa.script import InputError, first_three, option_parser, progress

PUBLISHED_LISTS = "https://raw.githubusercontent.com/MingzhenShao/HeadPose/cf42054bf048ec7b837d2dbb4282d6f1ea800730/"
MOST_NAMED = 20  # rows of each kind whose annotations differ


def fetch_lists(data_dir: str | Path, url: str = PUBLISHED_LISTS) -> None:
    """Download the six published lists into `data_dir`/lists, each verified against its git blob id.

    A list that is there already is kept.  Nothing is written until a download is whole and verified.

    Args:
        data_dir: the data folder; made where it is absent.
        url: the folder of the lists, on GitHub or a mirror.

    Raises:
        InputError: another list in the place of a published one; a download that failed or is not the published list.
    """
    for name, expected in PUBLISHED_BLOBS.items():
        target = Path(data_dir, "lists", name)
        if target.exists():
            if blob_id(target.read_bytes()) != expected:
                raise InputError(f"{target} exists and is not the published list; move it away to fetch that one")
            print(f"{name}: already there")
            continue
        content = _download(f"{url.rstrip('/')}/{name}")
        if blob_id(content) != expected:
            raise InputError(
                f"{url.rstrip('/')}/{name} is not the published list: git blob {blob_id(content)}, "
                f"expected {expected}; nothing was written"
            )
        with written_whole(target) as unfinished:
            unfinished.write_bytes(content)
        print(f"{name}: fetched and verified, {len(content):,} bytes")


def _download(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=60) as response:
            return response.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        mend = "try again, or put the list into lists/ by hand"
        raise InputError(f"{address} could not be downloaded: {error}; {mend}") from error


# --- What of a list is there, and whole -------------------------------------------------------------------------------
UNSEEN = "on this system a decoder's warnings cannot be seen: images may be damaged without a word"


def keep_present(listed: Listed, allow_missing: bool = False) -> Listed:
    """Skip the listed images that are absent, where that is allowed, and do what `keep_fitting` does.

    Raises:
        InputError: absent images without `allow_missing`, no image at all, and what `keep_fitting` refuses.
    """
    present = np.array([image_path(listed, record).is_file() for record in listed.records])
    if present.all():
        return keep_fitting(listed)
    absent = listed.records["path"][~present]
    if not (allow_missing and present.any()):
        source = f", from {listed.dataset.source}" if listed.dataset.source else ""
        skip = "; to skip missing images: --allow-missing" if present.any() else ""
        raise InputError(
            f"{listed.dataset.title}: {len(absent):,} of {len(present):,} listed images are not in {listed.data_dir} "
            f"({first_three(absent)}); expected {listed.dataset.layout} in this folder{source}{skip}"
        )
    return keep_fitting(replace(listed, records=listed.records[present], missing=len(absent)))


def keep_fitting(listed: Listed) -> Listed:
    """Reject rows of the published lists whose box does not fit its image; only the images' headers are read.

    Raises:
        InputError: such a row in your own lists (file and line), no row that fits, an image of too many pixels.
    """
    problems = list(in_parallel(lambda record: _misfit(listed, record), listed.records, 8, 64))
    bad = {str(record["path"]): error for record, error in zip(listed.records, problems, strict=True) if error}
    if not bad:
        return listed
    if not listed.published or len(bad) == len(problems):
        path, error = next(iter(bad.items()))
        raise InputError(f"{row_of(listed, path)}: {error}")
    rejected = {reason: list(paths) for reason, paths in listed.rejected.items()}
    for path, error in bad.items():
        rejected.setdefault(error.reason, []).append(path)
    usable = tuple(path for path in listed.usable if path not in bad)
    fits = np.array([error is None for error in problems])
    return replace(listed, records=listed.records[fits], rejected=rejected, usable=usable)


def _misfit(listed: Listed, record: np.void) -> RowError | None:
    """Why the box of a record does not fit its image; None where it does, or where the image cannot be read."""
    path = image_path(listed, record)
    shape = announced_shape(path)
    if shape is None or box_error(record, shape) is None:
        return None
    try:
        return box_error(record, read_image(path).shape)  # EXIF may have turned it
    except InputError:
        return None


def note_damage(listed: Listed) -> Listed:
    """Decode every image of a list once, and note those whose decoder warned; they are used as they are.

    Raises:
        InputError: images that cannot be read.
    """
    names = {image_path(listed, record): str(record["path"]) for record in listed.records}
    unreadable, warned = decode_all(progress(names, len(names), f"checking {listed.dataset.title}"))
    if unreadable:
        path, error = next(iter(unreadable.items()))
        those = first_three([names[each] for each in unreadable])
        raise InputError(
            f"{len(unreadable):,} of {len(names):,} listed images cannot be read ({those}): {path}: {error}"
        )
    notes = [] if warnings_are_seen() else [UNSEEN]
    if warned:
        those = f"{len(warned):,} DAMAGED: {first_three([names[path] for path in warned])}"
        mend = f"get them again; all are named by python data_loaders.py --data-dir {listed.data_dir} --check-images"
        notes.append(f"{those}: the decoder warned, so some of their pixels are wrong; {mend}")
    return replace(listed, notes=(*listed.notes, *notes))


def check_images(data_dir: str | Path) -> bool:
    """Decode every image in a folder, listed or not, and print which are damaged; True if none is.

    Raises:
        InputError: a folder without images.
    """
    paths = [path for path in files_below(data_dir) if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise InputError(f"{data_dir}: no images in it; looked for {' '.join(SUFFIXES)}")
    unreadable, warned = decode_all(progress(paths, len(paths), "checking"))
    for path, error in sorted((unreadable | warned).items()):
        print(f"{path.relative_to(data_dir)}: {error}")
    print(f"{len(paths):,} images decoded: {len(unreadable):,} cannot be read, {len(warned):,} with warnings")
    print("A damaged JPEG that can be decoded without a warning is not among them." if warnings_are_seen() else UNSEEN)
    return not (unreadable or warned)


# --- The published lists ----------------------------------------------------------------------------------------------
def check_data_folder(data_dir: str | Path) -> bool:
    """Print what of the lists and images of 300W-LP, AFLW2000 and BIWI is in a folder; True if paper runs can start."""
    reasons = {DATASETS[name].title: _check_dataset(name, data_dir) for name in PAPER_DATASETS}
    for title, found in reasons.items():
        if found:
            print(f"not ready for the paper's runs: {title}: {', '.join(found)}")
    return not any(reasons.values())


def _check_dataset(name: str, data_dir: str | Path) -> list[str]:
    """Print what there is; why runs of the paper cannot start."""
    dataset = DATASETS[name]
    print(dataset.title)
    try:
        listed = load_dataset(name, data_dir)
    except InputError as error:
        print(f"  lists: {error}")
        print(f"  images: expected as {dataset.layout}\n  get them from: {dataset.source}")
        return ["no usable lists"]
    usable = len(listed.records)
    print(f"  lists: {listed.files[0].rows:,} rows, {usable:,} usable" + ("" if listed.rejected else ", none rejected"))
    for reason, paths in listed.rejected.items():
        print(f"  rejected: {len(paths):,} {reason} ({first_three(paths)})")
    for note in listed.notes:
        print(f"  note: {note}")
    others = [Path(file.path) for file in listed.files if not file.published]
    if others:
        where = " and ".join(map(str, others))
        print(f"  to get the published lists: move {where} away, then add --fetch-lists")
    reasons = [f"{file.name} is not the published list" for file in others]
    return reasons + _check_images(listed) + _check_boxes(listed) + _check_annotations(listed)


def _check_images(listed: Listed) -> list[str]:
    dataset, usable = listed.dataset, len(listed.records)
    present = {path: record["path"] for record in listed.records if (path := image_path(listed, record)).is_file()}
    there = set(present.values())
    absent = [path for path in listed.records["path"].tolist() if path not in there]
    print(f"  images: {usable - len(absent):,} of {usable:,} found")
    unreadable, warned = decode_all(progress(present, len(present), f"checking {dataset.title}"))
    for what, found in (("cannot be read", unreadable), ("damaged", warned)):
        for path, said in found.items():
            print(f"  {what}: {present[path]}: {said}")
    if absent:
        print(f"  missing: {len(absent):,}, the first is {absent[0]}; expected as {dataset.layout}")
        for line in missing_frames(listed, there) if there else ():
            print(f"  {line}")
        print(f"  get them from: {dataset.source}")
    counts = {"missing": absent, "unreadable": unreadable, "damaged": warned}
    return [f"{what} images: {len(found):,}" for what, found in counts.items() if found]


def missing_frames(listed: Listed, there: Container[str]) -> Iterator[str]:
    """For every video that lacks listed frames: how many are there, and which ranges of the list are missing.

    Args:
        listed: frames of videos, in the order of their numbers; images of no video are left out.
        there: the paths that are present.
    """
    videos = listed.records["video"]
    for video in np.unique(videos[videos != ""]):
        paths = listed.records["path"][videos == video].tolist()
        frames = [Path(path).stem.removeprefix("frame_").removesuffix("_rgb") for path in paths]
        found = [path in there for path in paths]
        runs = [list(run) for ok, run in itertools.groupby(range(len(paths)), found.__getitem__) if not ok]
        ranges = ["-".join(dict.fromkeys((frames[run[0]], frames[run[-1]]))) for run in runs]
        if ranges:
            yield f"{video}: {sum(found):,} of {len(paths):,} present, missing {first_three(ranges)}"


def _check_boxes(listed: Listed) -> list[str]:
    try:
        unfit = len(listed.records) - len(keep_fitting(listed).records)
    except InputError as error:
        print(f"  boxes: {error}")
        return ["boxes that do not fit their images"]
    if unfit:
        print(f"  boxes: {unfit:,} do not fit their images; these rows are not used")
    return []


def _check_annotations(listed: Listed) -> list[str]:
    found = compare(listed)
    if found.rows:
        less = f"{len(found.boxes):,} with a box that overlaps the landmarks by less than {LEAST_OVERLAP}"
        print(f"  annotations: {found.rows:,} found, {len(found.angles):,} that differ by over {TOLERANCE}°, {less}")
    for what, rows in (
        ("annotation cannot be read", found.unread),
        ("angles differ, in list signs", found.angles),
        ("box", found.boxes),
    ):
        for path, said in itertools.islice(rows.items(), MOST_NAMED):
            print(f"  {what}: {path}: {said}")
        if len(rows) > MOST_NAMED:
            print(f"  {what}: {len(rows) - MOST_NAMED:,} more")
    return [f"rows whose angles differ: {len(found.angles):,}"] if found.angles else []


def main() -> int:
    """Check a data folder from the command line; exit status 1 if the paper's runs cannot start."""
    parser = option_parser(data_loaders.__doc__)
    parser.add_argument("--data-dir", default="data", help="folder with 300W_LP, AFLW2000, BIWI and the lists")
    text = "first download the six published lists into lists/ of the data folder, from GitHub or from a mirror"
    parser.add_argument("--fetch-lists", nargs="?", const=PUBLISHED_LISTS, metavar="URL", help=text)
    text = "only decode every image in the data folder, listed or not, and name those that are damaged"
    parser.add_argument("--check-images", action="store_true", help=text)
    options = parser.parse_args()
    if options.check_images:
        return 0 if check_images(options.data_dir) else 1
    if options.fetch_lists:
        fetch_lists(options.data_dir, options.fetch_lists)
    return 0 if check_data_folder(options.data_dir) else 1
