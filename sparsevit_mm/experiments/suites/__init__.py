"""The suites of the project."""

from ..plan import Suite
from .camvid_convnext import CAMVID_CONVNEXT
from .camvid_swin import CAMVID_SWIN
from .camvid_vit import CAMVID_VIT
from .coco_mini import COCO_MINI
from .demo import DEMO
from .kitti_mini import KITTI_MINI
from .smoke import SMOKE

__all__ = ['REPORTED', 'SUITES', 'suite_named']

REPORTED = (CAMVID_SWIN, CAMVID_CONVNEXT, CAMVID_VIT, DEMO, COCO_MINI, KITTI_MINI)
SUITES = {suite.name: suite for suite in (*REPORTED, SMOKE)}


def suite_named(name: str) -> Suite:
    """A suite by its name.

    Raises:
        ValueError: If there is none of it.
    """
    if name not in SUITES:
        raise ValueError(f'there is no suite {name!r}: choose one of {", ".join(SUITES)}.')
    return SUITES[name]
