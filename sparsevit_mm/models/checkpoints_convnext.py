"""Checkpoints of ConvNeXt as mmpretrain writes them."""

from torch import nn

from .checkpoints import load_backbone

__all__ = ['load_convnext_backbone']


def load_convnext_backbone(backbone: nn.Module, path: str, *, prefix: str | None = None) -> None:
    """Loads a pretrained ConvNeXt: a backbone, or a classifier, detector or segmentor with one.

    Args:
        backbone: The backbone to fill.
        path: The checkpoint.
        prefix: Prefix of the backbone's keys in the file; see :func:`~.checkpoints.load_backbone`.

    Raises:
        ValueError: If the file cannot be read or lacks weights of the backbone.
    """
    load_backbone(
        backbone,
        path,
        prefix=prefix,
        convert=dict,
        # Classifiers have a norm for the last stage only; the others keep their initial values.
        optional=lambda name: name.startswith('norm'),
        advice='arch, linear_pw_conv, use_grn and layer_scale_init_value',
    )
