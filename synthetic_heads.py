"""The embedded data set: heads of known pose, drawn by our own code into the layouts and lists of the real data sets.

python synthetic_heads.py --out data/synthetic
python synthetic_heads.py --contact-sheet heads.png
"""

import argparse
import io
import json
import multiprocessing
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np

from data_loaders import AXES, LIST_ORDER, rotation_matrix
from util.errors import InputError
from util.head_renderer import random_identity, random_scene, render_head

VERSION = 5  # raise it whenever the same seed draws other pictures: folders of an older version are then redrawn
MANIFEST = "synthetic.json"
PARTS = ("300W_LP", "AFLW2000", "BIWI")
LISTS = {
    "300W_LP": ("300wcrop.txt", "300w_euler_cls.txt"),
    "AFLW2000": ("Aflw2000crop.txt", "Aflw2000_euler_cls.txt"),
    "BIWI": ("biwi_rect.txt", "biwi_angle.txt"),
}
TRAINING_POSES, TEST_POSES = 4, 2  # of each person: to build a head takes longer than to draw it
FOCAL_LENGTH = 520.0  # pixels, of the camera of the videos
# The 68 landmarks of a mirrored face, as indices into those of the face.
MIRRORED = np.r_[
    16:-1:-1, 26:16:-1, 27:31, 35:30:-1, 45:41:-1, 47, 46, 39:35:-1, 41, 40, 54:47:-1, 59:54:-1, 64:59:-1, 67:64:-1
]
# The 21 points of AFLW as means of the 68; where AFLW marks ear lobes, the ends of the jaw line stand in.
AFLW_POINTS = (
    *((17,), (19,), (21,), (22,), (24,), (26,), (36,), (36, 39), (39,), (42,), (42, 45), (45,)),
    *((0,), (31,), (30,), (35,), (16,), (48,), (62, 66), (54,), (8,)),
)


def _angles(rng):
    """As in 300W-LP: yaw uniform to ±90°, pitch and roll moderate with tails.  Radians, AXES order.

    The test part has the same poses, so that every yaw is tested as often as it is trained; AFLW2000 itself has most
    of its faces within 30°.
    """
    pitch = rng.uniform(-60, 60) if rng.random() < 0.06 else np.clip(rng.normal(-4, 12), -60, 60)
    roll = rng.uniform(-60, 60) if rng.random() < 0.06 else np.clip(rng.normal(0, 10), -60, 60)
    return np.radians([rng.uniform(-90, 90), pitch, roll])


def _framing(rng):
    """Scale and place of a head in a 450 × 450 picture; one in eight is cut by a border."""
    spread = (32, 24) if rng.random() < 7 / 8 else (60, 50)
    return {"scale": float(rng.uniform(8.5, 16)), "centre": np.array([225, 212]) + rng.uniform(-1.7, 1.7, 2) * spread}


def _video_angles(rng, frames):
    """A smooth path through the poses, (frames, 3) radians."""
    reach = np.radians(rng.uniform((45, 25, 10), (75, 55, 35)))
    turns = rng.uniform(1.0, 2.6, 3) * np.arange(frames)[:, None] / max(frames, 30) + rng.random(3)
    return reach * np.sin(2 * np.pi * turns) * np.cos(0.6 * np.pi * turns[:, ::-1])


def _write_mat(path, facts, angles, size):
    """The `.mat` beside a picture, with the keys of the real ones; MATLAB's time stamp is left out."""
    from scipy.io import savemat

    yaw, pitch, roll = angles
    points, (x, y) = facts["landmarks"], facts["origin"]
    if path.parent.name == "AFLW2000":
        points = np.stack([points[:, list(group)].mean(axis=1) for group in AFLW_POINTS], axis=1)
    content = {  # as in 3DDFA: ty counts from the bottom of the picture, scale is pixels per micrometre
        "Pose_Para": np.array([[pitch, yaw, -roll, x, size - y, 0, facts["scale"] / 1e4]], np.float32),
        "pt2d": points,
        "pt3d_68": facts["landmarks_3d"].astype(np.float32),
        "roi": np.array([[1, 1, size, size]], np.int16),
    }
    stream = io.BytesIO()
    savemat(stream, content)
    path.write_bytes(b"MATLAB 5.0 MAT-file, synthetic head".ljust(116) + stream.getvalue()[116:])


def _mirror(picture, facts, angles):
    """The mirrored picture with its facts and angles: yaw and roll change sign, left and right landmarks swap."""
    width = picture.shape[1]
    points = facts["landmarks_3d"][:, MIRRORED] * [[-1], [1], [1]] + [[width - 1], [0], [0]]
    row, column, size = facts["box"]
    x, y = facts["origin"]
    changed = {"landmarks_3d": points, "landmarks": points[:2], "box": (row, width - column - size, size)}
    return picture[:, ::-1], {**facts, **changed, "origin": np.array([width - 1 - x, y])}, angles * (-1, 1, -1)


def _write_picture(data_dir, name, picture, facts, angles, rng):
    """One picture with its `.mat`; returns its rows of the two lists."""
    path = Path(data_dir, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 96))]
    path.write_bytes(cv2.imencode(".jpg", picture[..., ::-1], quality)[1].tobytes())
    _write_mat(path.with_suffix(".mat"), facts, angles, picture.shape[0])
    values = [dict(zip(AXES, angles, strict=True))[axis] for axis in LIST_ORDER]
    classes = [int(np.floor(np.degrees(value))) + 90 for value in values]
    return _box_row(name, facts), "\t".join([f"./{name}", *(f"{value:.12g}" for value in values), *map(str, classes)])


def _box_row(name, facts):
    row, column, size = facts["box"]
    return f"./{name}\t{row} {column} {size} {size} "


def _draw_training(data_dir, rng, number, count):
    """`count` pictures of one person, every second the mirrored copy of the one before."""
    identity, folder = random_identity(rng), ("AFW", "HELEN")[number % 2]
    rows = []
    for pose in range((count + 1) // 2):
        angles = _angles(rng)
        picture, facts = render_head(identity, angles, rng=rng, **_framing(rng))
        name = f"{folder}_{number:06d}_1_{pose}.jpg"
        rows.append(_write_picture(data_dir, f"300W_LP/{folder}/{name}", picture, facts, angles, rng))
        if len(rows) < count:
            copy = _mirror(picture, facts, angles)
            rows.append(_write_picture(data_dir, f"300W_LP/{folder}_Flip/{name}", *copy, rng))
    return rows


def _draw_test(data_dir, rng, number, count):
    """`count` pictures of one person; they are numbered from 2 as in AFLW2000."""
    identity, rows = random_identity(rng), []
    for n in range(count):
        angles = _angles(rng)
        picture, facts = render_head(identity, angles, rng=rng, **_framing(rng))
        name = f"AFLW2000/image{number * TEST_POSES + n + 2:05d}.jpg"
        rows.append(_write_picture(data_dir, name, picture, facts, angles, rng))
    return rows


def _draw_video(data_dir, rng, number, count):
    """One person before a camera that stands still, as in BIWI: 640 × 480, pose files and the camera's numbers."""
    identity, scene = random_identity(rng), random_scene(rng, 480, 640)
    angles, start = _video_angles(rng, count), rng.uniform((260, 200), (380, 260))
    scale, drift = rng.uniform(5.2, 7.5), rng.uniform(-25, 25, 2)
    folder = Path(data_dir, "BIWI", "hpdb", f"{number + 1:02d}")
    folder.mkdir(parents=True, exist_ok=True)
    camera = (
        f"{FOCAL_LENGTH} 0 320\n0 {FOCAL_LENGTH} 240\n0 0 1\n\n0 0 0 0\n\n1 0 0\n0 1 0\n0 0 1\n\n0 0 0\n\n640 480\n"
    )
    (folder / "rgb.cal").write_bytes(camera.encode())
    rows = []
    for frame in range(count):
        centre = start + drift * np.sin(2 * np.pi * frame / max(count, 30))
        picture, facts = render_head(
            identity, angles[frame], size=(480, 640), scale=scale, centre=centre, scene=scene, rng=rng
        )
        stem = f"frame_{frame + 3:05d}"
        image = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        (folder / f"{stem}_rgb.png").write_bytes(image.tobytes())
        (folder / f"{stem}_pose.txt").write_bytes(_pose_text(angles[frame], centre, scale).encode())
        name = f"BIWI/hpdb/{folder.name}/{stem}_rgb.png"
        degrees = dict(zip(AXES, np.degrees(angles[frame]), strict=True))
        rows.append(
            (_box_row(name, facts), "\t".join([f"./{name}", *(f"{degrees[axis]:.12g}" for axis in LIST_ORDER)]))
        )
    return rows


def _pose_text(angles, centre, scale):
    """BIWI's pose file: rotation and place (mm) in the frame of the camera, whose z axis points away from it."""
    away = np.diag([1.0, 1.0, -1.0])
    distance = 10 * FOCAL_LENGTH / scale
    place = [*((centre - (320, 240)) * distance / FOCAL_LENGTH), distance]
    lines = [" ".join(f"{value:.9g}" for value in row) + " " for row in away @ rotation_matrix(angles) @ away]
    return "\n".join([*lines, "", " ".join(f"{value:.6g}" for value in place), ""])


_DRAW = {"300W_LP": _draw_training, "AFLW2000": _draw_test, "BIWI": _draw_video}


def _draw_job(job):
    """One person's pictures.  The random numbers depend on seed, part and number alone, so never on who draws."""
    data_dir, seed, part, number, count = job
    return part, _DRAW[part](data_dir, np.random.default_rng([seed, PARTS.index(part), number]), number, count)


def write_data_set(data_dir, train=1000, test=200, videos=2, frames=15, seed=0, workers=None):
    """Draw the data set; the same seed gives the same bytes of every file, whatever the number of workers.

    Args:
        data_dir: folder to make; one that this program wrote before is replaced, any other data is left alone.
        train: pictures in 300W_LP, mirrored copies included.
        test: pictures in AFLW2000, of people whom no other part shows.
        videos, frames: videos in BIWI and frames in each.
        seed: whole number from 0.
        workers: processes; one for each core if None.

    Returns:
        Pictures written, by part.

    Raises:
        InputError: if data_dir holds data that this program did not write, or a number makes no sense.
    """
    arguments = {"train": train, "test": test, "videos": videos, "frames": frames, "seed": seed}
    workers = multiprocessing.cpu_count() if workers is None else workers
    _check_folder(Path(data_dir), {**arguments, "workers": workers})
    for folder in (Path(data_dir, name) for name in (*PARTS, "lists")):
        if folder.exists():
            shutil.rmtree(folder)
    Path(data_dir, "lists").mkdir(parents=True)
    manifest = {"program": "synthetic_heads.py", "version": VERSION, "arguments": arguments, "complete": False}
    _write_manifest(data_dir, manifest)
    jobs = _shares("300W_LP", train, 2 * TRAINING_POSES) + _shares("AFLW2000", test, TEST_POSES)
    # The longest come first, so that no worker ends long after the others.
    jobs = [("BIWI", n, frames) for n in range(videos)] + jobs
    rows = {part: [] for part in PARTS}
    total = sum(job[-1] for job in jobs)
    for part, drawn in _run([(str(data_dir), seed, *job) for job in jobs], workers):
        rows[part] += drawn
        print(f"\rdrawing heads: {sum(map(len, rows.values()))}/{total}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for part, names in LISTS.items():
        for name, lines in zip(names, zip(*rows[part], strict=True), strict=False):
            Path(data_dir, "lists", name).write_bytes(("\n".join(lines) + "\n").encode())
    counts = {part: len(lines) for part, lines in rows.items()}
    _write_manifest(data_dir, {**manifest, "complete": True, "counts": counts})
    return counts


def _shares(part, pictures, per_person):
    """Split a part's pictures over its people: part, number of the person, how many pictures."""
    return [(part, n, min(per_person, pictures - n * per_person)) for n in range(-(-pictures // per_person))]


def _run(jobs, workers):
    """Results of the jobs, in their order."""
    if workers == 1:
        yield from map(_draw_job, jobs)
        return
    # Not "fork": a process that has started TensorFlow must not be copied.
    with multiprocessing.get_context("spawn").Pool(workers, cv2.setNumThreads, (1,)) as pool:
        yield from pool.imap(_draw_job, jobs)


def _check_folder(data_dir, arguments):
    least = {"workers": 1}
    wrong = {name: n for name, n in arguments.items() if not isinstance(n, int) or n < least.get(name, 0)}
    pictures = arguments["train"], arguments["test"], arguments["videos"] and arguments["frames"]
    if wrong or not any(pictures):
        raise InputError(
            f"cannot draw a data set with {wrong or arguments}: give whole numbers from 0, one worker and one picture "
            "at least."
        )
    files, manifest = sum(path.is_file() for path in data_dir.rglob("*")), _read_manifest(data_dir)
    mine = _file_count(**manifest["arguments"]) if manifest else 0
    if files > mine:
        raise InputError(
            f"{data_dir} holds {files} files, of which {MANIFEST} explains {mine}: nothing was written, so that no "
            "other data is lost. Give a new folder for the synthetic heads."
        )


def _file_count(train, test, videos, frames, **_):
    """The most files that a data set with these arguments has."""
    return 2 * (train + test) + videos * (2 * frames + 1) + 2 * len(PARTS) + 1


def _write_manifest(data_dir, manifest):
    Path(data_dir, MANIFEST).write_bytes((json.dumps(manifest, indent=2) + "\n").encode())


def _read_manifest(data_dir):
    """The manifest, or None if there is none that can be read."""
    try:
        manifest = json.loads(Path(data_dir, MANIFEST).read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return manifest if manifest.get("program") == "synthetic_heads.py" else None


def ensure_data_set(data_dir, train=1000, test=200, videos=2, frames=15, seed=0, workers=None):
    """`write_data_set`, unless data_dir already holds the whole of exactly this data set; returns the counts."""
    arguments = {"train": train, "test": test, "videos": videos, "frames": frames, "seed": seed}
    manifest = _read_manifest(data_dir) or {}
    if manifest.get("complete") and (manifest["version"], manifest["arguments"]) == (VERSION, arguments):
        return manifest["counts"]
    return write_data_set(data_dir, **arguments, workers=workers)


# --- By hand ----------------------------------------------------------------------------------------------------------
def contact_sheet(seed=0, cell=170):
    """RGB picture of heads over the grid of yaw (columns) and pitch (rows, a person each), and of roll (last row)."""
    rng, rows = np.random.default_rng(seed), []
    poses = [[(yaw, pitch, 0) for yaw in range(90, -91, -30)] for pitch in (60, 30, 0, -30, -60)]
    poses.append([(0, 0, roll) for roll in (60, 40, 20, 0, -20, -40, -60)])
    for row in poses:
        heads, person = [], random_identity(rng)
        for pose in row:
            scene = random_scene(rng, cell, cell)
            head, _ = render_head(person, np.radians(pose), size=cell, scene=scene, rng=rng, scale=cell / 36)
            label = "  ".join(f"{axis[0]} {angle:+d}" for axis, angle in zip(AXES, pose, strict=True))
            for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
                cv2.putText(head, label, (6, cell - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thick, cv2.LINE_AA)
            heads.append(head)
        rows.append(np.hstack(heads))
    title = np.full((56, 7 * cell, 3), 255, np.uint8)
    lines = (
        "Drawn heads of known pose (degrees): y yaw, p pitch, r roll",
        "yaw > 0: the nose points to the left of the picture; pitch > 0: looks up; roll > 0: tilts counter-clockwise",
    )
    for n, line in enumerate(lines):
        cv2.putText(title, line, (8, 22 + 24 * n), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([title, *rows])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--out", metavar="DIR", help="write the data set into this folder")
    parser.add_argument("--train", type=int, default=1000, help="pictures in 300W_LP, mirrored copies included")
    parser.add_argument("--test", type=int, default=200, help="pictures in AFLW2000")
    parser.add_argument("--videos", type=int, default=2, help="videos in BIWI")
    parser.add_argument("--frames", type=int, default=15, help="frames in each video")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same data set")
    parser.add_argument("--workers", type=int, help="processes (default: one for each core)")
    parser.add_argument("--contact-sheet", metavar="FILE.png", help="draw heads over a grid of poses instead")
    options = parser.parse_args(arguments)
    if not options.out and not options.contact_sheet:
        parser.error("give --out DIR, --contact-sheet FILE.png, or both")
    if options.contact_sheet:
        cv2.imwrite(options.contact_sheet, contact_sheet(options.seed)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if options.out:
        names = ("train", "test", "videos", "frames", "seed", "workers")
        try:
            counts = write_data_set(options.out, **{name: getattr(options, name) for name in names})
        except InputError as error:
            parser.error(str(error))
        print(json.dumps(counts))


if __name__ == "__main__":
    main()
