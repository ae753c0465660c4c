"""Synthetic heads look where their angles say, and boxes, masks and landmarks lie on what is drawn."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rafa.heads import shape as head_shape
from rafa.heads.face import skin
from rafa.heads.head import head_surface
from rafa.heads.renderer import render_head
from rafa.heads.scene import Companion, Prop, Scene
from rafa.heads.shape import Identity, random_identity
from rafa.pose import rotation_matrix

# The mean face of AFLW2000: `pt3d_68` turned back by the labels, averaged over 288 images whose angles are within 40°,
# made symmetric. x, y, z about the mean of the 51 inner landmarks; the outer corners of the eyes are 1 apart.
MEAN_FACE = np.array([
    -0.83, -0.23, -0.98, -0.81, 0, -0.96, -0.76, 0.21, -0.94, -0.72, 0.39, -0.9, -0.65, 0.58, -0.8,
    -0.54, 0.74, -0.62, -0.41, 0.83, -0.41, -0.25, 0.92, -0.21, 0, 0.96, -0.13, 0.25, 0.92, -0.21,
    0.41, 0.83, -0.41, 0.54, 0.74, -0.62, 0.65, 0.58, -0.8, 0.72, 0.39, -0.9, 0.76, 0.21, -0.94,
    0.81, 0, -0.96, 0.83, -0.23, -0.98, -0.65, -0.49, -0.27, -0.56, -0.55, -0.14, -0.44, -0.58, -0.04,
    -0.32, -0.56, 0.01, -0.22, -0.54, 0.04, 0.22, -0.54, 0.04, 0.32, -0.56, 0.01, 0.44, -0.58, -0.04,
    0.56, -0.55, -0.14, 0.65, -0.49, -0.27, 0, -0.32, 0.08, 0, -0.19, 0.18, 0, -0.05, 0.29,
    0, 0.06, 0.31, -0.14, 0.17, 0.06, -0.08, 0.18, 0.11, 0, 0.19, 0.13, 0.08, 0.18, 0.11,
    0.14, 0.17, 0.06, -0.5, -0.32, -0.19, -0.43, -0.37, -0.1, -0.32, -0.38, -0.1, -0.22, -0.31, -0.13,
    -0.31, -0.29, -0.1, -0.42, -0.28, -0.13, 0.22, -0.31, -0.13, 0.32, -0.38, -0.1, 0.43, -0.37, -0.1,
    0.5, -0.32, -0.19, 0.42, -0.28, -0.13, 0.31, -0.29, -0.1, -0.3, 0.44, -0.09, -0.2, 0.38, 0.06,
    -0.07, 0.33, 0.14, 0, 0.34, 0.14, 0.07, 0.33, 0.14, 0.2, 0.38, 0.06, 0.3, 0.44, -0.09,
    0.19, 0.52, 0.02, 0.1, 0.57, 0.07, 0, 0.58, 0.08, -0.1, 0.57, 0.07, -0.19, 0.52, 0.02,
    -0.28, 0.44, -0.08, -0.09, 0.41, 0.08, 0, 0.41, 0.1, 0.09, 0.41, 0.08, 0.28, 0.44, -0.08,
    0.09, 0.48, 0.06, 0, 0.49, 0.08, -0.09, 0.48, 0.06,
]).reshape(68, 3)  # fmt: skip
REGIONS = {
    "jaw": slice(17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "mouth": slice(48, 68),
}
# Landmarks of the left of the image and their partners on the right, for a head that looks into the camera.
PAIRS = [(0, 16), (7, 9), (17, 26), (21, 22), (31, 35), (36, 45), (37, 44), (41, 46), (48, 54), (59, 55), (60, 64)]


@pytest.fixture(scope="module")
def person():
    return random_identity(np.random.default_rng(3))


@pytest.fixture(scope="module")
def empty_room():
    light, background = (0.0, -0.6, 0.8), np.zeros((300, 300, 3), np.uint8)
    return Scene(background, light, 0.6, 0.5, gain=(1.0, 1.0, 1.0), blur=0.0, noise=0.0, grey=False)


def turned(person, scene, degrees, **options):
    return render_head(person, np.radians(degrees), scene=scene, **options)


@pytest.mark.parametrize("yaw", [-70, 70])
@pytest.mark.parametrize("pitch", [-40, 40])
@pytest.mark.parametrize("roll", [-50, 50])
def test_landmarks_turned_back_are_those_of_a_symmetric_upright_face(person, empty_room, yaw, pitch, roll):
    _, facts = turned(person, empty_room, (yaw, pitch, roll))
    face = rotation_matrix(np.radians((yaw, pitch, roll))).T @ facts["landmarks"]
    left, right = (face[:, list(side)] for side in zip(*PAIRS, strict=True))
    size = np.ptp(face[0])
    assert np.abs((right - left)[1:]).max() < 0.03 * size
    assert (left[0] < right[0]).all()
    assert face[2, 30] == face[2].max()  # nothing stands out further than the tip of the nose
    assert face[1, 8] > face[1, 27] + 0.5 * size  # the chin is below the brow


@pytest.fixture(scope="module")
def mean_head():
    """The mean landmarks of 250 people before `LIFT`, as `MEAN_FACE` is placed and scaled."""
    rng, faces = np.random.default_rng(11), []
    for _ in range(250):
        identity = random_identity(rng)
        _, landmarks = skin(identity, np.random.default_rng(identity.seed))
        landmarks = landmarks * (identity.width, identity.length, identity.depth)
        faces.append(landmarks - landmarks[17:].mean(axis=0))
    mean = np.mean(faces, axis=0)
    return mean / np.linalg.norm(mean[45] - mean[36])


def test_the_face_before_its_lift_has_the_zero_of_the_labels_face_model(mean_head):
    turn, _ = Rotation.align_vectors(MEAN_FACE[17:], mean_head[17:])
    assert np.abs(turn.as_rotvec(degrees=True)).max() < 0.3  # the mean of 250 people is uncertain by about 0.14 degrees


def test_people_have_on_average_the_face_of_the_labels_face_model(mean_head):
    distances = np.linalg.norm(mean_head - MEAN_FACE, axis=1)
    bounds = {"jaw": 0.07, "brows": 0.02, "nose": 0.02, "eyes": 0.02, "mouth": 0.04}
    for region, bound in bounds.items():
        assert distances[REGIONS[region]].max() < bound, region


def test_what_lies_further_forward_lies_higher_and_no_nearer(person):
    _, modelled = skin(person, np.random.default_rng(person.seed))
    modelled = modelled * (person.width, person.length, person.depth)
    moved = head_surface(person)[1].T - modelled
    np.testing.assert_allclose(moved[:, 1], -0.08 * modelled[:, 2], atol=1e-5)
    np.testing.assert_allclose(moved[:, [0, 2]], 0, atol=1e-5)


def test_the_lifted_surface_has_its_own_normals():
    bald = Identity(style="bald")
    grid, _ = skin(bald, np.random.default_rng(bald.seed))
    lifted = grid.points - 0.08 * grid.points[..., 2:] * (0, 1, 0)
    surface, count = head_surface(bald)[0], lifted[..., 0].size
    np.testing.assert_allclose(surface.points[:, :count].T, lifted.reshape(-1, 3), atol=1e-5)
    alike = (surface.normals[:, :count].T * head_shape.grid_normals(lifted).reshape(-1, 3)).sum(axis=1)
    assert np.quantile(alike, 0.01) > 0.9999  # a normal of the face before the lift is up to 4.6° off: 0.997


@pytest.mark.parametrize(
    ("change", "landmark", "moves"),
    [
        ({"opening": 3.0}, 8, (0, 1)),  # the chin goes down
        ({"opening": 3.0}, 57, (0, 1)),  # so does the lower lip
        ({"opening": 3.0}, 51, (0, 0)),  # the upper one stays
        ({"smile": 1.0}, 54, (1, -1)),  # the corners of the mouth go outwards and up
        ({"raised": 0.5}, 24, (0, -1)),
        ({"lids": 0.0}, 44, (0, 1)),
    ],
)
def test_landmarks_follow_the_expression(change, landmark, moves):
    rest, moved = (skin(Identity(**features), np.random.default_rng(0))[1][landmark] for features in ({}, change))
    assert tuple(np.where(np.abs(moved - rest) > 0.25, np.sign(moved - rest), 0)[:2]) == moves


@pytest.mark.parametrize(("yaw", "pitch"), [(70, 40), (70, -40), (-70, 40), (-70, -40)])
def test_the_drawn_nose_points_where_the_angles_say(person, empty_room, yaw, pitch):
    _, facts = turned(person, empty_room, (yaw, pitch, 50))
    beside = facts["landmarks"][:2, [0, 1, 15, 16]]  # at the ears; weighted, as high as the tip of the nose
    drawn = facts["landmarks"][:2, 30] - np.average(beside, axis=1, weights=(3, 17, 17, 3))
    wanted = rotation_matrix(np.radians((yaw, pitch, 50)))[:2, 2]
    np.testing.assert_allclose(drawn / np.hypot(*drawn), wanted / np.hypot(*wanted), atol=0.01)
    assert tuple(np.sign(drawn)) == (-np.sign(yaw), -np.sign(pitch))


def test_yaw_above_zero_turns_the_drawn_face_to_the_left(person, empty_room):
    for yaw in (-90, 90):
        image, facts = turned(person, empty_room, (yaw, 0, 0))
        columns = np.flatnonzero(facts["mask"].any(axis=0))
        tip = facts["landmarks"][0, 30]  # at ±90° nothing reaches further than the nose
        assert abs(tip - (columns[0] if yaw > 0 else columns[-1])) <= 2.5
        assert image[facts["mask"]].mean() > 20


def test_the_image_itself_turns_with_the_roll(person, empty_room):
    """Independent of the facts: an upright head rotated in the image plane is the head drawn with that roll."""
    upright, _ = turned(person, empty_room, (0, 0, 0))
    rolled, facts = turned(person, empty_room, (0, 0, 25))
    by_hand = cv2.warpAffine(upright, cv2.getRotationMatrix2D((149.5, 149.5), 25, 1), (300, 300))
    other_way = cv2.warpAffine(upright, cv2.getRotationMatrix2D((149.5, 149.5), -25, 1), (300, 300))
    row, column, size = facts["box"]
    face = np.s_[row : row + size, column : column + size]
    error, wrong = (np.abs(rolled[face].astype(float) - other[face]).mean() for other in (by_hand, other_way))
    assert error < wrong / 2


def test_a_head_is_drawn_at_its_scale_and_centre(person, empty_room):
    middle = turned(person, empty_room, (30, 10, 5), scale=5)[1]["landmarks"]
    moved = turned(person, empty_room, (30, 10, 5), scale=5, centre=(100, 170))[1]["landmarks"]
    twice = turned(person, empty_room, (30, 10, 5), scale=10)[1]["landmarks"]
    np.testing.assert_allclose(moved - middle, np.tile([[100 - 149.5], [170 - 149.5], [0]], 68), atol=1e-9)
    centre = np.array([[149.5], [149.5], [0]])
    np.testing.assert_allclose(twice - centre, 2 * (middle - centre), atol=1e-9)


def test_the_mask_covers_the_head_and_only_the_head(person, empty_room):
    image, facts = turned(replace(person, style="short"), empty_room, (20, 10, 0), scale=6)
    drawn = image.max(axis=2) > 0
    assert drawn[facts["mask"]].mean() > 0.99
    assert 0.05 < facts["mask"].mean() < 0.5
    assert facts["mask"][tuple(np.round(facts["landmarks"][1::-1, 30]).astype(int))]
    assert drawn[-1].any() and not facts["mask"][-1].any()  # the shoulders
    below = np.arange(300) > facts["landmarks"][1].max() + 6  # the neck
    assert drawn[below, 140:160].all() and not facts["mask"][below].any()


def test_the_body_turns_by_its_share_of_the_rotation(person, empty_room):
    def shoulders(yaw, follow):
        return turned(person, replace(empty_room, follow=follow), (yaw, 0, 0), scale=6)[0][-1]

    np.testing.assert_array_equal(shoulders(60, 0.0), shoulders(0, 0.0))
    assert (shoulders(60, 0.5) != shoulders(60, 0.0)).any()
    np.testing.assert_array_equal(shoulders(60, 0.5), shoulders(30, 1.0))


def test_a_head_beyond_the_border_is_cut_off(person, empty_room):
    for centre in ((-40, 150), (340, 150), (150, -40), (150, 340)):
        _, facts = turned(person, empty_room, (0, 0, 0), centre=centre)
        rows, columns = np.nonzero(facts["mask"])
        assert 0 < len(rows) < 0.3 * 300 * 300
        side = {-40: 0, 340: 299}
        assert (side[centre[0]] in columns) if centre[0] in side else (side[centre[1]] in rows)
    assert not turned(person, empty_room, (0, 0, 0), centre=(5000, 150))[1]["mask"].any()


def test_the_box_lies_on_the_face_as_in_the_published_list(empty_room):
    mean = Identity(opening=0.6)  # of the proportions of MEAN_FACE
    boxes = np.array([turned(mean, empty_room, (0, 0, 0), rng=np.random.default_rng(n))[1]["box"] for n in range(20)])
    landmarks = turned(mean, empty_room, (0, 0, 0))[1]["landmarks"][:2]
    row, column, size = boxes.mean(axis=0)
    width, height = np.ptp(landmarks, axis=1)
    assert size / width == pytest.approx(1.025, abs=0.1) and size / height == pytest.approx(1.069, abs=0.1)
    middle = (landmarks.min(axis=1) + landmarks.max(axis=1)) / 2
    assert (column + size / 2 - middle[0]) / size == pytest.approx(-0.006, abs=0.03)
    assert (row + size / 2 - middle[1]) / size == pytest.approx(-0.059, abs=0.03)
    assert boxes.std(axis=0).min() > 0


@pytest.mark.parametrize("sign", [-1, 1])
def test_in_profile_the_box_is_smaller_and_lies_towards_the_nose(person, empty_room, sign):
    _, facts = turned(person, empty_room, (sign * 80, 0, 0), rng=np.random.default_rng(1))
    low, high = facts["landmarks"][:2].min(axis=1), facts["landmarks"][:2].max(axis=1)
    _, column, size = facts["box"]
    assert size / np.sqrt(np.prod(high - low)) == pytest.approx(0.85, abs=0.08)
    assert -sign * (column + size / 2 - (low + high)[0] / 2) / size == pytest.approx(0.37, abs=0.06)


@pytest.mark.parametrize("roll", [0, 180])
def test_light_falls_from_where_it_shines(roll, person, empty_room):
    image, facts = turned(person, empty_room, (0, 0, roll))
    assert image[facts["mask"]].std() > 5
    left = replace(empty_room, light=(-1.0, 0.0, 0.0))
    grey = turned(person, left, (0, 0, roll))[0].mean(axis=2)
    cheek = facts["mask"] & (np.abs(np.arange(300)[:, None] - 150) < 60)
    assert grey[:, :150][cheek[:, :150]].mean() > 1.2 * grey[:, 150:][cheek[:, 150:]].mean()


def test_the_camera_of_a_scene_changes_the_image(person, empty_room):
    plain = turned(person, empty_room, (0, 0, 0))[0].astype(float)

    def photographed(**changes):
        return turned(person, replace(empty_room, **changes), (0, 0, 0))[0].astype(float)

    assert np.ptp(photographed(grey=True), axis=2).max() == 0 < np.ptp(plain, axis=2).max()
    dim, bright = (photographed(brightness=level)[120:180, 120:180].mean() for level in (60.0, 120.0))
    assert bright / dim == pytest.approx(2**0.75, rel=0.1)
    halved = photographed(gain=(0.5, 1.0, 1.0))
    dark = plain[..., 0] < 250  # what was white may have been brighter than 255
    np.testing.assert_allclose(halved[..., 0][dark], plain[..., 0][dark] / 2, atol=1)
    np.testing.assert_array_equal(halved[..., 1:], plain[..., 1:])
    assert np.abs(np.diff(photographed(blur=3.0), axis=0)).sum() < np.abs(np.diff(plain, axis=0)).sum()
    noise = photographed(noise=5.0) - plain
    assert noise[(plain > 30).all(axis=2) & (plain < 220).all(axis=2)].std() == pytest.approx(5, abs=0.3)


@pytest.mark.parametrize("style", head_shape.HAIR_STYLES + head_shape.LONG_STYLES)
def test_every_hair_style_is_drawn(style, empty_room):
    identity = Identity(style=style, glasses=True, beard=0.5)
    image, facts = turned(identity, empty_room, (150, 0, 0))
    bald, _ = turned(Identity(style="bald", glasses=True, beard=0.5), empty_room, (150, 0, 0))
    assert facts["mask"].mean() > 0.1
    assert (image != bald).any() == (style != "bald")


def test_features_change_the_face(empty_room):
    def drawn(**changes):
        return turned(Identity(**changes), empty_room, (0, 0, 0))[0]

    plain, beard, glasses = drawn(), drawn(beard=1.0), drawn(glasses=True)
    changes = [{"glasses": True}, {"beard": 1.0}, {"smile": 1.0}, {"jaw": 1.1}, {"eye_size": 1.2}, {"seed": 1}]
    changes += [{"opening": 1.0}, {"lids": 0.1}, {"raised": 0.4}, {"gaze": (0.4, 0.0)}, {"age": 1.0}, {"freckles": 1.0}]
    changes += [{"makeup": 1.0}, {"arch": 0.0}]
    for change in changes:
        assert (drawn(**change) != plain).any(), change
    for kind in set(head_shape.BEARDS) - {Identity().beard_kind}:
        assert (drawn(beard=1.0, beard_kind=kind) != beard).any(), kind
    for change in ({"dark_lenses": True}, {"rim": 0.05}):
        assert (drawn(glasses=True, **change) != glasses).any(), change


def test_a_head_without_hair_is_as_wide_on_the_left_as_on_the_right(empty_room):
    _, facts = turned(Identity(style="bald"), empty_room, (0, 0, 0))
    columns = np.flatnonzero(facts["mask"].any(axis=0))  # from ear to ear
    assert columns[0] + columns[-1] == pytest.approx(299, abs=2)
    ears = head_shape.ear_of(Identity(), -1).points, head_shape.ear_of(Identity(), 1).points
    assert ears[0][..., 0].max() < 0 < ears[1][..., 0].min()


def test_people_vary_as_they_should():
    rng = np.random.default_rng(0)
    people = [random_identity(rng) for _ in range(2000)]
    for name, spread in head_shape.SPREAD.items():
        factors = np.array([getattr(person, name) for person in people])
        assert (factors.mean(), factors.std()) == (pytest.approx(1, abs=0.02), pytest.approx(spread, rel=0.1))
    assert np.mean([person.glasses for person in people]) == pytest.approx(0.2, abs=0.03)
    assert {person.style for person in people} == set(head_shape.HAIR_STYLES + head_shape.LONG_STYLES)
    assert {person.headwear for person in people} == {"", *head_shape.HEADWEAR}
    assert not [person for person in people if person.beard and person.style in head_shape.LONG_STYLES]


def test_the_mask_ends_where_the_photograph_ends(person, empty_room):
    whole, facts = turned(person, empty_room, (0, 0, 0))
    cut = replace(empty_room, border=(np.inf, np.inf, -0.25, np.inf))
    image, cut_facts = turned(person, cut, (0, 0, 0))
    low, high = facts["landmarks"][:2].min(axis=1), facts["landmarks"][:2].max(axis=1)
    left = int(low[0] + 0.25 * np.sqrt(np.prod(high - low)))
    assert image[:, :left].max() == 0 and not cut_facts["mask"][:, :left].any()
    np.testing.assert_array_equal(image[:, left:], whole[:, left:])
    np.testing.assert_array_equal(cut_facts["mask"][:, left:], facts["mask"][:, left:])


def test_somebody_behind_the_head_is_hidden_by_it_and_not_in_its_mask(person, empty_room):
    alone, facts = turned(person, empty_room, (30, 0, 0))
    together = replace(empty_room, companions=(Companion(3, (10.0, 0.0)),))
    image, again = turned(person, together, (30, 0, 0))
    changed = np.abs(image.astype(int) - alone).max(axis=2) > 2
    inside = cv2.erode(facts["mask"].astype(np.uint8), np.ones((5, 5))) > 0  # the outline lets something through
    assert 0.05 < changed.mean() < 0.6 and not changed[inside].any()
    np.testing.assert_array_equal(again["mask"], facts["mask"])


def test_the_nose_throws_a_shadow_away_from_the_light(empty_room):
    light = (-0.8, -0.2, np.sqrt(1 - 0.68))
    bright, dark = (
        turned(Identity(style="bald"), replace(empty_room, light=light, shadow=shadow), (0, 0, 0))
        for shadow in (0.0, 1.0)
    )
    lost = bright[0].astype(int).sum(axis=2) - dark[0].astype(int).sum(axis=2)
    x, y = np.round(bright[1]["landmarks"][:2, 30]).astype(int)
    assert lost.min() >= -3 and lost[y - 30 : y, x : x + 30].mean() > 3 + 5 * lost[y - 30 : y, x - 30 : x].mean()


@pytest.mark.parametrize("kind", head_shape.HEADWEAR)
def test_headwear_turns_with_the_head_and_belongs_to_its_mask(kind, empty_room):
    bare, dressed = (Identity(style="bald", headwear=worn, cloth=(0, 250, 0)) for worn in ("", kind))
    for yaw in (-60, 60):
        without, with_it = (turned(identity, empty_room, (yaw, 0, 0)) for identity in (bare, dressed))
        added = (without[0] != with_it[0]).any(axis=2) & with_it[1]["mask"]
        assert added.sum() > 200
        red, green, blue = np.moveaxis(with_it[0].astype(int), 2, 0)
        hides = (green > red + 20) & (green > blue + 20) & without[1]["mask"]
        assert hides.sum() > 3000, "the cloth is nearer than the head"
        np.testing.assert_array_equal(without[1]["landmarks"], with_it[1]["landmarks"])
        assert with_it[1]["mask"][without[1]["mask"]].mean() > 0.99


def test_the_brim_of_a_cap_points_where_the_nose_points(empty_room):
    person = Identity(style="bald", headwear="cap", seed=1)
    for yaw in (-80, 80):
        facts = turned(person, empty_room, (yaw, 0, 0))[1]
        brow = int(facts["landmarks"][1, 17:27].min())
        columns = np.flatnonzero(facts["mask"][brow - 25 : brow].any(axis=0))
        beyond = facts["landmarks"][0, 30] - columns[0] if yaw > 0 else columns[-1] - facts["landmarks"][0, 30]
        assert beyond > 10


@pytest.mark.parametrize("kind", ["hand", "microphone", "cup"])
def test_what_is_held_before_the_face_is_not_in_the_mask(kind, person, empty_room):
    held = replace(empty_room, props=(Prop(kind, 57, 1.2),))
    (plain, facts), (image, covered) = (turned(person, scene, (20, 0, 0)) for scene in (empty_room, held))
    hidden = facts["mask"] & ~covered["mask"]
    assert hidden.sum() > 200 and not (covered["mask"] & ~facts["mask"]).any()
    assert (image != plain)[hidden].any(axis=1).mean() > 0.99
    assert (image == plain)[covered["mask"]].mean() > 0.98  # but for a soft outline
