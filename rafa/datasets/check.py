"""What of the lists and images is in a data folder: at a start, on request, and fetching the published lists."""

import http.client
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePosixPath

import numpy as np

from rafa.datasets.annotations import annotation_path, read_angles
from rafa.datasets.images import SUFFIXES, files_below, read_image
from rafa.datasets.lists import Listed, has_lists, image_path, listed_image, load_dataset
from rafa.datasets.making import make_lists
from rafa.datasets.rows import PUBLISHED_BLOBS, blob_id
from rafa.datasets.sets import DATASETS, PAPER_DATASETS
from rafa.files import written_whole
from rafa.pose import AXES
from rafa.script import InputError, first_three, option_parser, progress

PUBLISHED_LISTS = "https://raw.githubusercontent.com/MingzhenShao/HeadPose/cf42054bf048ec7b837d2dbb4282d6f1ea800730/"
# Degrees.  `.mat` files hold the lists' angles times π/3.14: at most 0.043° more in 394 rows of AFLW2000.
TOLERANCE = 0.1
MOST_NAMED = 20  # of the rows whose annotations differ


# --- At the start of a run --------------------------------------------------------------------------------------------
def keep_present(listed: Listed, allow_missing: bool = False) -> Listed:
    """Skip the listed images that are absent, where that is allowed; none is opened.

    Raises:
        InputError: absent images without `allow_missing`, or no image at all.
    """
    present = _present(listed)
    if present.all():
        return listed
    absent = listed.records["path"][~present]
    if not (allow_missing and present.any()):
        source = f", from {listed.dataset.source}" if listed.dataset.source else ""
        skip = "; to skip missing images: --allow-missing" if present.any() else ""
        raise InputError(
            f"{listed.dataset.title}: {len(absent):,} of {len(present):,} listed images are not in {listed.data_dir} "
            f"({first_three(absent)}); expected {listed.dataset.layout} in this folder{source}{skip}"
        )
    return replace(listed, records=listed.records[present], missing=len(absent))


def _present(listed: Listed) -> np.ndarray:
    """Which listed images are there, (n,) bool."""
    return np.array([image_path(listed, record).is_file() for record in listed.records])


# --- Decoding every image ---------------------------------------------------------------------------------------------
def check_images(data_dir: str | Path) -> bool:
    """Decode the listed images that are there, or all images of a folder without lists, and print the unusable ones.

    Returns:
        Whether every image can be read and every box fits its image.

    Raises:
        InputError: a malformed list; a folder without images.
    """
    reads: list[Callable[[], object]] = []
    datasets = [load_dataset(name, data_dir) for name in PAPER_DATASETS if has_lists(name, data_dir)]
    for listed in datasets:
        records = listed.records[_present(listed)]
        print(f"{listed.dataset.title}: {len(records):,} of {len(listed.records):,} listed images are there")
        reads += [partial(listed_image, listed, record) for record in records]
    if not datasets:
        reads = [partial(read_image, path) for path in files_below(data_dir) if path.suffix.lower() in SUFFIXES]
    if not reads:
        raise InputError(f"{data_dir}: no images in it; looked for those of the lists, or {' '.join(SUFFIXES)}")
    with ThreadPool() as pool:
        problems = [problem for problem in progress(pool.imap(_problem, reads), len(reads), "checking") if problem]
    print("\n".join([*problems, f"{len(reads):,} images decoded, {len(problems):,} of them cannot be used"]))
    return not problems


def _problem(read: Callable[[], object]) -> str:
    """Why an image cannot be used; "" where it can."""
    try:
        read()
    except InputError as error:
        return str(error)
    return ""


# --- The report of a data folder --------------------------------------------------------------------------------------
def check_data_folder(data_dir: str | Path) -> bool:
    """Print what of the lists and images of 300W-LP, AFLW2000 and BIWI is in a folder; True if paper runs can start."""
    incomplete = [DATASETS[name].title for name in PAPER_DATASETS if not _check_dataset(name, data_dir)]
    if incomplete:
        print(f"not ready for the paper's runs: {', '.join(incomplete)}")
    return not incomplete


def _check_dataset(name: str, data_dir: str | Path) -> bool:
    """Print what there is; whether runs of the paper can start."""
    dataset = DATASETS[name]
    print(dataset.title)
    try:
        listed = load_dataset(name, data_dir)
    except InputError as error:
        print(f"  lists: {error}")
        print(f"  images: expected as {dataset.layout}\n  get them from: {dataset.source}")
        return False
    usable = len(listed.records)
    print(f"  lists: {listed.files[0].rows:,} rows, {usable:,} usable" + ("" if listed.rejected else ", none rejected"))
    for reason, paths in listed.rejected.items():
        print(f"  rejected: {len(paths):,} {reason} ({first_three(paths)})")
    for note in listed.notes:
        print(f"  note: {note}")
    if not listed.published:
        where = " and ".join(file.path for file in listed.files if not file.published)
        print(f"  to get the published lists: move {where} away, then add --fetch-lists")
    all_present, no_differences = _check_present(listed), _check_annotations(listed)
    return listed.published and all_present and no_differences


def _check_present(listed: Listed) -> bool:
    """Print how many of the listed images are there; whether all are."""
    present = _present(listed)
    print(f"  images: {present.sum():,} of {len(present):,} found")
    absent = listed.records["path"][~present].tolist()
    if absent:
        folders = Counter(str(PurePosixPath(path).parent) for path in absent)
        where = first_three([f"{count:,} in {folder}" for folder, count in folders.items()])
        print(f"  missing: {where}; the first is {absent[0]}; expected as {listed.dataset.layout}")
        print(f"  get them from: {listed.dataset.source}")
    return not absent


def _check_annotations(listed: Listed) -> bool:
    """Print which rows have other angles than the annotation beside their image, where there is one; whether none."""
    compared, differing = 0, []
    for record in progress(listed.records, len(listed.records), f"annotations of {listed.dataset.title}"):
        file = annotation_path(image_path(listed, record))
        if file.is_file():
            compared += 1
            if difference := _difference(record, file):
                differing.append(f"  angles: {record['path']}: {difference}")
    if compared:
        bad = f"{len(differing):,} that differ by over {TOLERANCE}° or cannot be read"
        print("\n".join([f"  annotations: {compared:,} found, {bad}", *differing[:MOST_NAMED]]))
    return not differing


def _difference(record: np.void, file: Path) -> str:
    """In what the angles of a record and of an annotation differ; "" where they agree."""
    try:
        annotated = read_angles(file)
    except InputError as error:
        return str(error)
    if (np.degrees(np.abs(record["angles"] - annotated)) <= TOLERANCE).all():
        return ""
    listed, beside = (" ".join(f"{angle:.2f}°" for angle in np.degrees(each)) for each in (record["angles"], annotated))
    return f"{', '.join(AXES)}, in list signs, are {listed} in the list, {beside} in {file.name}"


# --- Fetching ---------------------------------------------------------------------------------------------------------
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


def main(description: str | None) -> int:
    """Check a data folder from the command line, or make lists; exit status 1 if the paper's runs cannot start.

    Args:
        description: of the script, for its help.
    """
    parser = option_parser(description)
    parser.add_argument("--data-dir", default="data", help="folder with 300W_LP, AFLW2000, BIWI and the lists")
    add = parser.add_mutually_exclusive_group().add_argument
    text = "first download the six published lists into lists/ of the data folder, from GitHub or from a mirror"
    add("--fetch-lists", nargs="?", const=PUBLISHED_LISTS, metavar="URL", help=text)
    text = "only decode the listed images that are there, or all where there are no lists, and name the unusable ones"
    add("--check-images", action="store_true", help=text)
    text = "only make lists from the annotations beside the images, for those who cannot get the published ones"
    add("--make-lists", choices=PAPER_DATASETS, help=text)
    options = parser.parse_args()
    if options.make_lists:
        make_lists(options.make_lists, options.data_dir)
        return 0
    if options.check_images:
        return 0 if check_images(options.data_dir) else 1
    if options.fetch_lists:
        fetch_lists(options.data_dir, options.fetch_lists)
    return 0 if check_data_folder(options.data_dir) else 1
