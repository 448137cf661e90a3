"""Arguments that several stock backbones have."""

from collections.abc import Sequence

from mmengine.logging import print_log
from mmengine.utils import to_2tuple

__all__ = ['check_options', 'image_size', 'init_cfg_of', 'out_stages']

# How dropped units are packed, what a map shows of them, how many there are, and how long a ranking of them lasts.
CHOICES = dict(
    package=('separate', 'merged'),
    unfold=('residual', 'reuse'),
    counts=('fixed', 'adaptive'),
    ranking=('stage', 'site'),
)


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


def check_options(owner: str, bypasses: Sequence[str], bypass: str, **options: str) -> None:
    """Looks at the option ``bypass`` and those in ``CHOICES`` of a backbone that drops units.

    Args:
        owner: Name of the backbone.
        bypasses: What its dropped units can do.
        bypass: What a user chose of it.
        **options: The other choices.

    Raises:
        ValueError: If one of them is unknown.
    """
    for option, value in dict(bypass=bypass, **options).items():
        allowed = CHOICES.get(option, tuple(bypasses))
        if value not in allowed:
            raise ValueError(f'{option} of {owner} must be one of {allowed}, got {value!r}.')


def out_stages(out_indices: int | Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Stages that return a map, where negative ones count from the last.

    Raises:
        ValueError: If there is no such stage, or one is named twice.
    """
    given = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    stages = tuple(i + num_stages if i < 0 else i for i in given)
    if any(not 0 <= i < num_stages for i in stages) or len(set(stages)) != len(stages):
        raise ValueError(f'out_indices must be distinct stages from 0 to {num_stages - 1}, got {out_indices!r}.')
    return stages
