"""Pictures of the demo set: photographs with a few small number plates, a handwritten digit on each.

The photographs ship with scikit-image and scikit-learn, the digits (8x8 scans of handwriting) with
scikit-learn. Training and validation share neither a photograph nor a digit. Each digit has plates of
one colour, so that a small network learns in minutes: of digits in any colour it learned in as many minutes where
they are, but not which.
"""

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ['PHOTOGRAPHS', 'DemoSource', 'Instance', 'Scene', 'render_scene']

PHOTOGRAPHS: dict[str, tuple[str, ...]] = {
    'train': (
        'astronaut',
        'brick',
        'cell',
        'china',
        'clock',
        'coffee',
        'coins',
        'flower',
        'grass',
        'hubble_deep_field',
        'immunohistochemistry',
        'retina',
        'rocket',
        'stereo_motorcycle',
    ),
    'val': ('camera', 'chelsea', 'gravel', 'moon'),
}

# Every split takes its own part of the 1797 scans, in their order.
_DIGIT_SPANS = {'train': slice(0, 1300), 'val': slice(1300, None)}
_MIN_TILE, _MAX_TILE = 36, 72  # side in pixels
# RGB of the plates with the digits 0 to 9.
_COLOURS = (
    (25, 25, 25),  # black
    (120, 70, 30),  # brown
    (205, 35, 40),  # red
    (245, 130, 40),  # orange
    (245, 215, 45),  # yellow
    (40, 150, 70),  # green
    (40, 70, 200),  # blue
    (205, 50, 185),  # magenta
    (60, 200, 205),  # turquoise
    (240, 240, 240),  # white
)


@dataclass(frozen=True)
class DemoSource:
    """What the scenes of a split are made of.

    Args:
        photographs: RGB pictures, uint8 ``[H, W, 3]``, of various sizes.
        digits: Scans in [0, 1], float32 ``[n, 8, 8]``.
        labels: The digit of each scan, ``[n]``.
    """

    photographs: tuple[np.ndarray, ...]
    digits: np.ndarray
    labels: np.ndarray

    @classmethod
    def load(cls, split: str) -> 'DemoSource':
        """Reads the photographs and scans of a split from the installed packages; nothing is downloaded."""
        from sklearn.datasets import load_digits

        scans = load_digits()
        span = _DIGIT_SPANS[split]
        photographs = tuple(_load_photograph(name) for name in PHOTOGRAPHS[split])
        return cls(photographs, (scans.images[span] / 16).astype(np.float32), scans.target[span])


def _load_photograph(name: str) -> np.ndarray:
    if name in ('china', 'flower'):
        from sklearn.datasets import load_sample_image

        return load_sample_image(f'{name}.jpg')
    import skimage.data

    picture = getattr(skimage.data, name)()
    if isinstance(picture, tuple):  # a stereo pair with its disparities
        picture = picture[0]
    return np.repeat(picture[..., None], 3, axis=-1) if picture.ndim == 2 else picture[..., :3]


@dataclass(frozen=True)
class Instance:
    """One plate of a scene: its digit, and the pixels it covers as bool ``[size, size]``."""

    digit: int
    mask: np.ndarray


@dataclass(frozen=True)
class Scene:
    """A picture, uint8 RGB ``[size, size, 3]``, and the plates on it, which do not overlap."""

    image: np.ndarray
    instances: tuple[Instance, ...]


def render_scene(source: DemoSource, size: int, rng: np.random.Generator) -> Scene:
    """Draws one scene.

    Plates gather in one or two places, as things do in photographs, and the rest of the picture is background.

    Args:
        source: Photographs and digits to choose from.
        size: Side of the square picture in pixels.
        rng: All that is random comes from it.
    """
    image = _background(source.photographs[rng.integers(len(source.photographs))], size, rng)
    taken = np.zeros((size, size), bool)
    instances = []
    for _ in range(rng.integers(1, 3)):
        centre = rng.uniform(0.15 * size, 0.85 * size, 2)
        for _ in range(rng.integers(2, 6)):
            index = rng.integers(len(source.digits))
            instance = _place_tile(image, taken, source.digits[index], int(source.labels[index]), centre, rng)
            if instance is not None:
                instances.append(instance)
    return Scene(image, tuple(instances))


def _background(photograph: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A square cut of a photograph, mirrored and brightened at random."""
    side = int(rng.uniform(0.6, 1.0) * min(photograph.shape[:2]))
    top, left = (rng.integers(length - side + 1) for length in photograph.shape[:2])
    cut = photograph[top : top + side, left : left + side]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    cut = cv2.resize(np.ascontiguousarray(cut), (size, size), interpolation=cv2.INTER_AREA)
    return np.clip(cut * rng.uniform(0.7, 1.15) + rng.uniform(-15, 15), 0, 255).astype(np.uint8)


def _place_tile(
    image: np.ndarray,
    taken: np.ndarray,
    scan: np.ndarray,
    digit: int,
    centre: np.ndarray,
    rng: np.random.Generator,
) -> Instance | None:
    """Paints a tile near a centre, in place; None where no free spot was found in a few attempts."""
    tile, stroke = _tile_and_stroke(scan, rng)
    height, width = tile.shape
    size = len(image)
    for _ in range(10):
        spot = np.rint(centre + rng.normal(0, 0.11 * size, 2) - (height / 2, width / 2)).astype(int)
        top, left = np.clip(spot, 0, (size - height, size - width))
        window = np.s_[top : top + height, left : left + width]
        if not taken[window].any():
            break
    else:
        return None
    taken[window] = True
    patch = image[window].astype(np.float32)
    for opacity, colour in zip((tile, stroke), _colours(digit, rng)):
        patch += opacity[..., None] * (colour - patch)
    image[window] = np.rint(patch).astype(np.uint8)
    mask = np.zeros((size, size), bool)
    mask[window] = tile > 0.5
    return Instance(digit, mask)


def _tile_and_stroke(scan: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A square tile with round corners and the digit on it, both turned: opacities in [0, 1], ``[h, w]`` each."""
    side = int(rng.integers(_MIN_TILE, _MAX_TILE + 1))
    radius = border = side // 5
    margin = side // 6
    tile = np.zeros((side, side), np.float32)
    tile[radius:-radius] = tile[:, radius:-radius] = 1
    for x in (radius, side - 1 - radius):
        for y in (radius, side - 1 - radius):
            cv2.circle(tile, (x, y), radius, 1, cv2.FILLED)
    stroke = cv2.resize(scan, (side - 2 * margin, side - 2 * margin), interpolation=cv2.INTER_CUBIC)
    middle = (side + 2 * border - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), rng.uniform(-15, 15), 1.0)
    tile, stroke = (_turned(tile, border, turn), _turned(stroke, border + margin, turn))
    rows, columns = (np.flatnonzero((tile > 0).any(axis)) for axis in (1, 0))
    visible = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return tile[visible], np.clip((stroke[visible] - 0.3) / 0.2, 0, 1)


def _turned(picture: np.ndarray, border: int, turn: np.ndarray) -> np.ndarray:
    picture = cv2.copyMakeBorder(picture, border, border, border, border, cv2.BORDER_CONSTANT, value=0)
    return cv2.warpAffine(picture, turn, picture.shape[::-1], flags=cv2.INTER_LINEAR)


def _colours(digit: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colour of a plate, near that of its digit, and of the stroke, which stands out: RGB, float32 ``[3]`` each."""
    plate = np.clip(np.float32(_COLOURS[digit]) * rng.uniform(0.85, 1.1) + rng.uniform(-15, 15, 3), 0, 255)
    stroke = rng.uniform(200, 255, 3) if plate.mean() < 130 else rng.uniform(0, 50, 3)
    return plate, stroke.astype(np.float32)
