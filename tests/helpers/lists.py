"""Lists of a few images, written and read by several test files."""

from rafa.datasets.lists import read_lists


def write_lists(folder, boxes, angles, names=("crop.txt", "angles.txt")):
    (folder / names[0]).write_bytes("\r\n".join(boxes).encode())
    (folder / names[1]).write_bytes("\n".join(angles).encode() + b"\n")


def lines_of(path):
    return path.read_text(encoding="utf-8").splitlines()


def read(folder, unit="radians"):
    return read_lists(folder / "crop.txt", folder / "angles.txt", unit, folder)
