"""The datasets: 300W-LP, AFLW2000, BIWI and the synthetic heads, their lists and layouts, and the splits of BIWI."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dataset:
    """A pair of lists: file names, unit, what the published lists hold, and where the images come from."""

    title: str
    crop_list: str
    angle_list: str
    unit: str  # of the angle list: "radians" or "degrees"
    layout: str = "images as listed"  # where the images lie under the data folder, as a glob pattern
    source: str = ""  # how to get them; "": your own
    rows: int | None = None  # rows of the published lists; None: not known
    usable: int | None = None  # rows with a box and angles; None: not known


_300W_LP = ("300wcrop.txt", "300w_euler_cls.txt", "radians", "300W_LP/*/*.jpg")

_AFLW2000 = ("Aflw2000crop.txt", "Aflw2000_euler_cls.txt", "radians", "AFLW2000/image*.jpg")

_BIWI = ("biwi_rect.txt", "biwi_angle.txt", "degrees", "BIWI/hpdb/*/frame_*_rgb.png")

_3DDFA = "3DDFA's project page (Zhu et al., CVPR 2016): unpack"

_KINECT = "Biwi Kinect Head Pose Database (Fanelli et al., IJCV 2013): unpack kinect_head_pose_db.tgz into BIWI"

_HEADS = "python synthetic_heads.py --out DIR"

DATASETS = {
    "300w-lp": Dataset("300W-LP", *_300W_LP, f"300W-LP, {_3DDFA} 300W-LP.zip into the data folder"),
    "aflw2000": Dataset(
        "AFLW2000", *_AFLW2000, f"AFLW2000-3D, {_3DDFA} AFLW2000-3D.zip into the data folder", rows=1955, usable=1947
    ),
    "biwi": Dataset("BIWI", *_BIWI, _KINECT, rows=15648, usable=15648),
    "synthetic-train": Dataset("synthetic heads, training part", *_300W_LP, _HEADS),
    "synthetic": Dataset("synthetic heads, test part", *_AFLW2000, _HEADS),
}

PAPER_DATASETS = ("300w-lp", "aflw2000", "biwi")  # their lists are the published ones

# Who is on which of BIWI's 24 videos: 20 people, four of them recorded twice (02 = 21, 03 = 15, 05 = 18, 07 = 22).
# The table of sequence and subject of the Hugging Face dataset `biwi_kinect_head_pose`.
_BIWI_PEOPLE = "F01 F02 F03 F04 F05 F06 M01 M02 M03 M04 M05 M06 M07 M08 F03 M09 M10 F05 M11 M12 F02 M01 M13 M14"

BIWI_PERSON = {f"{video:02d}": person for video, person in enumerate(_BIWI_PEOPLE.split(), start=1)}

# The test videos of the BIWI splits; all others train.  The paper's 16/8 split is unknown, as is FSA-Net's.
BIWI_SPLITS = {
    "17-7": ("02", "07", "09", "14", "15", "19", "20"),  # published; persons of 02, 07 and 15 are in training too
    "17-7-b": ("02", "04", "09", "13", "14", "16", "20"),  # published test list; person of 02 is in training too
    # Ours: person-disjoint, the first draw of scikit-learn's GroupShuffleSplit (7 of 20 persons, random_state 0) that
    # has 8 videos; tests/datasets/test_lists.py draws it again.
    "16-8": ("03", "06", "09", "12", "13", "14", "15", "17"),
}

SPLIT_FRAMES = {"17-7": 4647, "17-7-b": 4889, "16-8": 5217}  # test frames of each split in the published lists
