"""From lists to records to crops to batches: how 300W-LP, AFLW2000, BIWI and your own lists reach the network.

    listed = load_dataset("aflw2000", "data")            # records: paths, boxes, angles in radians (rafa/datasets)
    crops = load_crop(listed, listed.records[0], 0.2)    # (224, 224, 3) RGB, uint8
    for crops, targets in training_batches(...): ...     # one epoch

Run it to check a data folder, to fetch the published lists into it first, to decode every image once, or to make lists
of your own from the annotations beside the images:

    python data_loaders.py --data-dir data
    python data_loaders.py --data-dir data --fetch-lists
    python data_loaders.py --data-dir data --check-images
    python data_loaders.py --data-dir data --make-lists aflw2000
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import cv2
import numpy as np

from rafa.datasets.lists import Listed, box_of, limited, listed_image, load_dataset, read_lists  # noqa: F401
from rafa.pose import AXES, CROP_SIZE

Batch = tuple[np.ndarray, dict[str, np.ndarray]]  # (b, 224, 224, 3) uint8 RGB crops, and {axis: (b, 1)} in radians
Job = TypeVar("Job")
Result = TypeVar("Result")


# --- Crops ------------------------------------------------------------------------------------------------------------
def crop(image: np.ndarray, row: int, column: int, size: int, margin: float) -> np.ndarray:
    """Cut out a square box, grown by a margin, and resize it to (224, 224, 3); channels keep their order.

    The box grows by `int(size · float32(margin))` pixels on each side; single precision makes 0.3 a little more than
    0.3 and 0.7 a little less.  What lies outside the image is black.

    Args:
        image: (h, w, 3) uint8.
        row, column, size: the top left corner of the box and its side, in pixels.
        margin: as a share of the side; taken to be γ of the paper's tables.
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


def load_crop(listed: Listed, record: np.void, margin: float) -> np.ndarray:
    """The network's input for a record: (224, 224, 3) uint8 RGB."""
    return crop(listed_image(listed, record), *box_of(record), margin)


# --- Views of a face --------------------------------------------------------------------------------------------------
VIEWS = {1: (0.0,), 6: (0.0, -0.1, 0.1)}  # crops of a face that are predicted → what is added to their margin


def views_of(image: np.ndarray, row: int, column: int, size: int, margin: float, views: int = 1) -> np.ndarray:
    """One crop of a face, or six: (views, 224, 224, 3).

    The six are those at three margins (none below 0), each followed by its mirror image; the first is the single one.
    """
    crops = [crop(image, row, column, size, max(0.0, margin + more)) for more in VIEWS[views]]
    return np.stack(crops if views == 1 else [view for each in crops for view in (each, each[:, ::-1])])


def mean_of_views(angles: np.ndarray, views: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations, (n, 3) each, of the angles predicted for views of n faces, (n · views, 3).

    The angles of mirrored views are turned back first.
    """
    predicted = angles.reshape(-1, views, 3).copy()
    predicted[:, 1::2] *= (-1, 1, -1)
    return predicted.mean(axis=1), predicted.std(axis=1)


def scoring_batches(
    listed: Listed, batch_size: int, margin: float, workers: int, views: int = 1
) -> Iterator[np.ndarray]:
    """Every record once, in order, the last partial batch included: yields (b · views, 224, 224, 3) uint8 RGB crops."""

    def load(record: np.void) -> np.ndarray:
        return views_of(listed_image(listed, record), *box_of(record), margin, views)

    crops = in_parallel(load, listed.records, workers, 4 * batch_size)
    while batch := list(islice(crops, batch_size)):
        yield np.concatenate(batch)


# --- Training batches -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Shard:
    """What a machine reads of every batch: one of `count` equal, consecutive parts; all of it by default."""

    index: int = 0
    count: int = 1

    def of(self, samples: np.ndarray, batch_size: int) -> np.ndarray:
        """Its part of samples that fill batches, in order."""
        return samples.reshape(-1, self.count, batch_size // self.count)[:, self.index].ravel()


WHOLE = Shard()


class KeptImages:
    """The decoded images of a list, each cut down to its box with the largest margin, as many as the memory holds.

    Args:
        listed: the list.
        max_margin: of the crops, as a share of the box.
        memory: bytes.
    """

    def __init__(self, listed: Listed, max_margin: float, memory: float = 0) -> None:
        self.listed, self.max_margin, self.memory = listed, max_margin, memory
        self.parts: dict[int, tuple[np.ndarray, int, int, int]] = {}  # index → part of the image, and the box in it

    def crop(self, index: int, margin: float) -> np.ndarray:
        """As `load_crop` of the record at an index, for a margin up to the largest."""
        if index in self.parts:
            return crop(*self.parts[index], margin)
        record = self.listed.records[index]
        image = listed_image(self.listed, record)
        row, column, size = box_of(record)
        reach = int(size * self.max_margin) + 1
        top, left = max(row - reach, 0), max(column - reach, 0)
        part = image[top : row + size + reach, left : column + size + reach]
        if self.memory >= part.nbytes:
            self.memory -= part.nbytes
            self.parts[index] = (part.copy(), row - top, column - left, size)
        return crop(part, row - top, column - left, size, margin)


def training_batches(
    images: KeptImages, batch_size: int, seed: int, epoch: int, workers: int, shard: Shard = WHOLE
) -> Iterator[Batch]:
    """The shuffled batches of one epoch, the same for any number of workers; of a shard, its part of each batch.

    Order and margins, U(0, max_margin) each, are drawn from (seed, epoch): a resumed run sees what it would have seen.
    Images that do not fill a batch are left out of an epoch; the first epoch (0) reads those too, so that every image
    that cannot be used is met in it.
    """
    records = images.listed.records
    order, left_out, rng = shuffled(len(records), batch_size, seed, epoch)
    margins = rng.uniform(0, images.max_margin, len(order))
    batch_size = min(batch_size, len(records))
    jobs = zip(shard.of(order, batch_size), shard.of(margins, batch_size), strict=True)

    def load(job: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
        index, margin = job
        return images.crop(index, margin), records[index]["angles"]

    samples = in_parallel(load, jobs, workers, 4 * batch_size)
    while batch := list(islice(samples, batch_size // shard.count)):
        crops, angles = zip(*batch, strict=True)
        yield np.stack(crops), output_targets(np.stack(angles))
    for index in left_out if epoch == 0 else ():
        listed_image(images.listed, records[index])


def shuffled(number: int, batch_size: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """The order of an epoch's records, those that do not fill a batch, and random numbers from (seed, epoch)."""
    rng = np.random.default_rng((seed, epoch))
    order, used = rng.permutation(number), batches_per_epoch(number, batch_size) * min(batch_size, number)
    return order[:used], order[used:], rng


def batches_per_epoch(number: int, batch_size: int) -> int:
    """How many full batches an epoch has; one smaller batch where there are fewer records than that."""
    return max(1, number // batch_size)


def output_targets(angles: np.ndarray) -> dict[str, np.ndarray]:
    """Angles (b, 3) in the order of AXES as the network puts them out: {axis: (b, 1)} float32."""
    return {axis: angles[:, index : index + 1].astype("float32") for index, axis in enumerate(AXES)}


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
    from functools import partial

    from rafa.datasets.check import main
    from rafa.script import run_script

    run_script(partial(main, __doc__))
