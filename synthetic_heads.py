"""Draw synthetic heads of known pose, in the layout and the lists of the real datasets.

python synthetic_heads.py --out data/synthetic
python synthetic_heads.py --contact-sheet heads.jpg

Images to train on go to 300W_LP, images to test on, of other people, to AFLW2000.
"""

import numpy as np

from rafa.heads.dataset import write_dataset
from rafa.heads.renderer import render_head
from rafa.heads.shape import random_identity
from rafa.media.drawing import save_image
from rafa.media.panels import panel
from rafa.script import number, option_parser, run_script


def contact_sheet(seed: int = 0, cell: int = 128) -> np.ndarray:
    """RGB image of heads over a grid of yaw (columns) and pitch (rows, one person each), and of roll (last row)."""
    rng, heads, captions = np.random.default_rng(seed), [], []
    poses = [[(yaw, pitch, 0) for yaw in range(90, -91, -30)] for pitch in (60, 30, 0, -30, -60)]
    for row in [*poses, [(0, 0, roll) for roll in (60, 40, 20, 0, -20, -40, -60)]]:
        person = random_identity(rng)
        for pose in row:
            heads.append(render_head(person, np.radians(pose), size=cell, scale=cell / 36, rng=rng)[0])
            captions.append(" / ".join(map(str, pose)))
    title = "Synthetic heads of known pose: yaw / pitch / roll in degrees"
    signs = "yaw > 0 turns the nose to the left of the image, pitch > 0 looks up, roll > 0 tilts counter-clockwise"
    return panel(heads, captions, 7, title=title, footnote=signs, tile=cell, below=True)


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--out", metavar="DIR", help="write the dataset into this folder")
    parser.add_argument("--train", type=number(int, 0), default=1000, help="images in 300W_LP, half of them mirrored")
    parser.add_argument("--test", type=number(int, 0), default=200, help="images in AFLW2000")
    parser.add_argument("--seed", type=number(int, 0), default=0, help="the same seed draws the same dataset")
    parser.add_argument("--workers", type=number(int, 1), help="processes (default: one for each core)")
    parser.add_argument("--contact-sheet", metavar="FILE", help="draw heads over a grid of poses; .jpg or .png")
    options = parser.parse_args()
    if not options.out and not options.contact_sheet:
        parser.error("give --out DIR, --contact-sheet FILE, or both")
    if options.contact_sheet:
        save_image(contact_sheet(options.seed), options.contact_sheet)
    if options.out:
        write_dataset(options.out, options.train, options.test, options.seed, options.workers)


if __name__ == "__main__":
    run_script(main)
