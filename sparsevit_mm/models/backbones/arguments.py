"""Arguments that several stock backbones have."""

from collections.abc import Sequence

from mmengine.logging import print_log
from mmengine.utils import to_2tuple

__all__ = ['image_size', 'init_cfg_of']


def image_size(size: int | Sequence[int], option: str) -> tuple[int, int]:
    """Height and width from a side, or from a sequence of one or two.

    Raises:
        ValueError: If there are more than two.
    """
    if isinstance(size, Sequence) and len(size) == 1:
        size = size[0]
    pair = tuple(to_2tuple(size))
    if len(pair) != 2:
        raise ValueError(f'{option} must be an int or two, got {size!r}.')
    return pair


def init_cfg_of(init_cfg: dict | None, pretrained: str | None) -> dict | None:
    """``init_cfg``, or what the older ``pretrained`` means by that.

    Raises:
        ValueError: If both are given.
    """
    if pretrained is None:
        return init_cfg
    if init_cfg:
        raise ValueError('pretrained and init_cfg are both given; drop pretrained and keep init_cfg.')
    print_log('pretrained is deprecated, use init_cfg=dict(type="Pretrained", ...)', 'current', 30)
    return dict(type='Pretrained', checkpoint=pretrained)
