"""Pictures of the demo set: photographs with a few small, coloured digits on them.

The photographs ship with scikit-image and scikit-learn, the digits (8x8 scans of handwriting) with
scikit-learn. Training and validation share neither a photograph nor a digit.
"""

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ['PHOTOGRAPHS', 'DemoSource', 'Instance', 'Scene', 'render_scene']

PHOTOGRAPHS: dict[str, tuple[str, ...]] = {
    'train': (
        'astronaut',
        'brick',
        'chelsea',
        'china',
        'coffee',
        'grass',
        'hubble_deep_field',
        'immunohistochemistry',
        'stereo_motorcycle',
    ),
    'val': ('flower', 'gravel', 'moon', 'rocket'),
}

# Every split takes its own part of the 1797 scans, in their order.
_DIGIT_SPANS = {'train': slice(0, 1300), 'val': slice(1300, None)}
_MIN_DIGIT, _MAX_DIGIT = 28, 64  # side in pixels
_MIN_CONTRAST = 70  # between digit and what it covers, in grey levels
_GREY = np.array((0.299, 0.587, 0.114))  # weights of R, G, B (ITU-R BT.601)


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
    """One digit of a scene: its value, and the pixels it covers as bool ``[size, size]``."""

    digit: int
    mask: np.ndarray


@dataclass(frozen=True)
class Scene:
    """A picture, uint8 RGB ``[size, size, 3]``, and the digits on it, which do not overlap."""

    image: np.ndarray
    instances: tuple[Instance, ...]


def render_scene(source: DemoSource, size: int, rng: np.random.Generator) -> Scene:
    """Draws one scene.

    Digits gather in one or two places, as things do in photographs, and the rest of the picture is background.

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
            instance = _place_digit(image, taken, source.digits[index], int(source.labels[index]), centre, rng)
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


def _place_digit(
    image: np.ndarray,
    taken: np.ndarray,
    scan: np.ndarray,
    digit: int,
    centre: np.ndarray,
    rng: np.random.Generator,
) -> Instance | None:
    """Paints a digit near a centre, in place; None where no free spot was found in a few attempts."""
    alpha = _digit_alpha(scan, rng)
    height, width = alpha.shape
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
    colour = _contrasting_colour(patch[alpha > 0.5], rng)
    image[window] = np.rint(patch + alpha[..., None] * (colour - patch)).astype(np.uint8)
    mask = np.zeros((size, size), bool)
    mask[window] = alpha > 0.5
    return Instance(digit, mask)


def _digit_alpha(scan: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The scan enlarged and turned, as opacity in [0, 1] ``[h, w]``, cut to what is visible."""
    side = int(rng.integers(_MIN_DIGIT, _MAX_DIGIT + 1))
    border = side // 4
    canvas = cv2.resize(scan, (side, side), interpolation=cv2.INTER_CUBIC)
    canvas = cv2.copyMakeBorder(canvas, border, border, border, border, cv2.BORDER_CONSTANT, value=0)
    middle = (len(canvas) - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), rng.uniform(-15, 15), 1.0)
    canvas = cv2.warpAffine(canvas, turn, canvas.shape[::-1], flags=cv2.INTER_LINEAR)
    alpha = np.clip((canvas - 0.3) / 0.2, 0, 1)
    rows, columns = (np.flatnonzero((alpha > 0).any(axis)) for axis in (1, 0))
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _contrasting_colour(covered: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A colour, float32 ``[3]``, whose grey level is far from that of the covered pixels ``[n, 3]``."""
    level = float(covered.mean(0) @ _GREY)
    colour = rng.uniform(0, 255, 3)
    while abs(colour @ _GREY - level) < _MIN_CONTRAST:
        colour = rng.uniform(0, 255, 3)
    return colour.astype(np.float32)
