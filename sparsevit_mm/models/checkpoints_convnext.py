"""Checkpoints of ConvNeXt as mmpretrain writes them."""

from mmengine.logging import print_log
from torch import nn

from .checkpoints import is_grown, read_checkpoint, some, state_of

__all__ = ['load_convnext_backbone']


def load_convnext_backbone(backbone: nn.Module, path: str, *, prefix: str | None = None) -> None:
    """Loads a pretrained ConvNeXt: a backbone, or a classifier, detector or segmentor with one.

    Args:
        backbone: The backbone to fill.
        path: The checkpoint.
        prefix: Prefix of the backbone's keys in the file; without it ``backbone.`` is taken where there is such.

    Raises:
        ValueError: If the file cannot be read or lacks weights of the backbone.
    """
    state = state_of(read_checkpoint(path), path)
    prefix = (prefix.rstrip('.') + '.') if prefix else 'backbone.'
    if any(key.startswith(prefix) for key in state):
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    other = [
        f'{key} {tuple(state[key].shape)} for {tuple(value.shape)}'
        for key, value in backbone.state_dict().items()
        if key in state and state[key].shape != value.shape
    ]
    # Classifiers have a norm for the last stage only; the others keep their initial values.
    stock = [name for name, _ in backbone.named_parameters() if not is_grown(name)]
    missing = [name for name in stock if name not in state and not name.startswith('norm')]
    if other or missing:
        raise ValueError(
            f'checkpoint {path} is no {type(backbone).__name__} of this size: {len(other)} tensors have another '
            f'shape{some(other)}, {len(missing)} parameters are missing{some(missing)}. Check arch, linear_pw_conv, '
            f'use_grn and layer_scale_init_value, or give another checkpoint.'
        )
    result = backbone.load_state_dict(state, strict=False)
    if result.unexpected_keys:
        print_log(f'{path} has keys with no place in the backbone{some(result.unexpected_keys)}', 'current', 30)
