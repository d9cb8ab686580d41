"""Bars are found whatever fills them; grounds on which products are filmed are not bars."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.kit import borders
from stages.kit.borders import inner_box, profile, unpack_profile
from tests.unit.stages.source.synth import textured

WIDTH, HEIGHT, SIDE = 160, 288, 40
COLOURS = {
    "black": (16, 16, 16), "white": (255, 255, 255), "blue": (20, 60, 160), "beige": (228, 210, 190),
    "grey": (128, 128, 128),
}  # fmt: skip


@pytest.fixture(scope="module")
def picture():
    """Something moves all over it, with detail: what a camera sees."""
    frames = textured(8, HEIGHT, WIDTH, seed=4, speed=5)
    grain = np.random.default_rng(5).integers(-30, 30, (HEIGHT, WIDTH, 1))
    return np.clip(frames.astype(int) + grain, 30, 235).astype(np.uint8)


def coded(frame: np.ndarray) -> np.ndarray:
    """Through a lossy coder and to luma: bars are never exactly flat."""
    done = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return cv2.cvtColor(cv2.imdecode(done, cv2.IMREAD_COLOR), cv2.COLOR_BGR2GRAY)


def found(frames) -> tuple[int, int, int, int]:
    box = inner_box([profile(coded(f)) for f in frames])
    return box.left, box.top, box.right, box.bottom


def barred(frames, colour, left=0, top=0, right=0, bottom=0):
    shape = (frames.shape[1] + top + bottom, frames.shape[2] + left + right, 3)
    out = np.empty((len(frames), *shape), np.uint8)
    out[:] = colour
    out[:, top : top + frames.shape[1], left : left + frames.shape[2]] = frames
    return out


def assert_near(box, expected, tolerance_px=5):
    assert np.abs(np.subtract(box, expected)).max() <= tolerance_px, (box, expected)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    "sides", [{"left": SIDE, "right": SIDE}, {"top": SIDE, "bottom": SIDE}, {"left": 30, "right": 60},
              {"top": SIDE}, {"left": 30, "right": 30, "top": 50, "bottom": 50}],
)  # fmt: skip
def test_flat_bars_of_any_colour(picture, colour, sides):
    left, top = sides.get("left", 0), sides.get("top", 0)
    frames = barred(picture, COLOURS[colour], **sides)
    assert_near(found(frames), (left, top, left + WIDTH, top + HEIGHT))


@pytest.mark.parametrize("colour", ["white", "black", "blue"])
def test_a_logo_on_a_bar(picture, colour):
    frames = barred(picture, COLOURS[colour], top=70, bottom=70)
    for frame in frames:
        cv2.putText(frame, "SHOP", (40, 45), cv2.FONT_HERSHEY_SIMPLEX, 1, (210, 120, 20), 3)
    assert_near(found(frames), (0, 70, WIDTH, 70 + HEIGHT))


def test_shaded_bars(picture):
    frames = barred(picture, (0, 0, 0), left=SIDE, right=SIDE)
    shade = np.linspace(60, 200, HEIGHT)[:, None, None] * np.array([0.6, 0.8, 1.0])
    frames[:, :, :SIDE] = frames[:, :, -SIDE:] = shade
    assert_near(found(frames), (SIDE, 0, SIDE + WIDTH, HEIGHT))


@pytest.mark.parametrize(
    ("dark", "zoom", "stretch"), [(1, 1, False), (0.6, 1, False), (1, 1.25, False), (1, 1, True)]
)
@pytest.mark.parametrize("upright", [True, False])
def test_a_blurred_copy_of_the_picture(scene, dark, zoom, stretch, upright):
    frames = scene if upright else np.ascontiguousarray(scene.transpose(0, 2, 1, 3))
    height, width = frames.shape[1:3]
    size = (512, height) if upright else (width, 512)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    out = []
    for frame in frames:
        scale = max(size[0] / width, size[1] / height) * zoom
        shape = size if stretch else (round(width * scale), round(height * scale))
        ground = cv2.resize(frame, shape)
        y, x = (ground.shape[0] - size[1]) // 2, (ground.shape[1] - size[0]) // 2
        ground = cv2.GaussianBlur(ground[y : y + size[1], x : x + size[0]], (0, 0), 14) * dark
        ground[top : top + height, left : left + width] = frame
        out.append(ground.astype(np.uint8))
    assert_near(found(out), (left, top, left + width, top + height), tolerance_px=6)


@pytest.fixture(scope="module")
def scene(picture):
    """Light and dark parts that a strong blur leaves apart."""
    large = cv2.resize(textured(1, 36, 20, seed=9)[0], (WIDTH, HEIGHT)).astype(int)
    moved = [np.roll(large, 6 * t, axis=0) for t in range(len(picture))]
    return np.clip(np.stack(moved) * 0.8 + (picture.astype(int) - 128) * 0.4, 0, 255).astype(
        np.uint8
    )


def ground_with(kind: str, colour, t: float) -> np.ndarray:
    """A product, a person or a hand with a box on a plain ground, with a camera's noise."""
    frame = np.full((480, 270, 3), colour, np.uint8)
    if kind == "box in a hand":
        centre = (135 + 15 * np.sin(t), 250 + 30 * np.cos(1.3 * t))
        corners = cv2.boxPoints((centre, (90, 150), float(8 * np.sin(t)))).astype(int)
        cv2.fillPoly(frame, [corners], (200, 40, 50))
        cv2.circle(frame, (int(centre[0]), int(centre[1] + 90)), 55, (210, 160, 130), -1)
    elif kind == "box that stands":
        cv2.rectangle(frame, (80, 130), (190, 350), (40, 80, 200), -1)
    elif kind == "box that turns":
        half = int(70 + 30 * abs(np.cos(t)))
        cv2.rectangle(frame, (135 - half, 130), (135 + half, 350), (40, 80, 200), -1)
    elif kind == "bottle":
        cv2.ellipse(frame, (135, 270), (45, 140), 0, 0, 360, (90, 140, 60), -1)
    elif kind == "person":
        cv2.circle(frame, (135 + int(4 * np.sin(t)), 120), 45, (200, 150, 120), -1)
        cv2.rectangle(frame, (45, 310), (225, 480), (60, 60, 120), -1)
        cv2.ellipse(frame, (135, 390), (105, 190), 0, 0, 360, (60, 60, 120), -1)
    noise = np.random.default_rng(int(10 * t)).normal(0, 1.2, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


KINDS = ["box in a hand", "box that stands", "box that turns", "bottle", "person"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", [(255, 255, 255), (250, 250, 250), (225, 60, 90), (90, 90, 90)])
def test_a_plain_ground_is_not_a_bar(kind, colour):
    frames = [ground_with(kind, colour, t / 2) for t in range(8)]
    assert found(frames) == (0, 0, 270, 480)


@pytest.mark.parametrize("kind", ["box in a hand", "box that stands", "bottle", "person"])
def test_a_black_ground_is_not_a_bar(kind):
    frames = [ground_with(kind, (14, 14, 14), t / 2) for t in range(8)]
    assert found(frames) == (0, 0, 270, 480)


@pytest.mark.parametrize("width", [0.25, 0.4])
def test_a_background_out_of_focus_beside_something_sharp_is_not_a_bar(scene, picture, width):
    """The background is even the blurred scene itself, as where a person stands before what they resemble."""
    out = []
    for soft, sharp in zip(scene, picture, strict=True):
        ground = cv2.GaussianBlur(soft, (0, 0), 8)
        mask = np.zeros((HEIGHT, WIDTH), np.float32)
        cv2.ellipse(mask, (80, 170), (int(width * WIDTH), 150), 0, 0, 360, 1, -1)
        mask = cv2.GaussianBlur(mask, (0, 0), 1.5)[..., None]
        out.append((sharp * mask + ground * (1 - mask)).astype(np.uint8))
    assert found(out) == (0, 0, WIDTH, HEIGHT)


def test_a_profile_survives_its_file(picture):
    original = profile(coded(picture[0]))
    data = np.concatenate([p.ravel() for p in (original.rows, original.columns, original.small)])
    again = unpack_profile(data, HEIGHT, WIDTH)
    assert all(np.array_equal(getattr(original, n), getattr(again, n)) for n in original.__slots__)


def test_real_clips_without_bars_are_left_whole(shared_data):
    """Sixteen pictures of each real clip; the one with bars loses them."""
    for path in sorted((shared_data / "videos").glob("[dcr][aoe]*.mp4")):
        if path.name.startswith("corrupt") or "cuts" in path.name:
            continue
        capture = cv2.VideoCapture(str(path))
        frames = [capture.read()[1] for _ in range(120)][::15]
        greys = [cv2.cvtColor(f, cv2.COLOR_BGR2GRAY) for f in frames if f is not None]
        box = borders.inner_box([profile(g) for g in greys])
        assert (box.width, box.height) == greys[0].shape[::-1], path.name
