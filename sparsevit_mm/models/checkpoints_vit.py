"""Checkpoints of plain ViTs: names of mmseg, mmpretrain, timm (DeiT) and DINOv2."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoints import StateDict, load_backbone, resize_rows

__all__ = ['as_float', 'convert_vit', 'fit_vit_positions', 'load_vit_backbone']

# Names in timm and DINOv2, and in mmpretrain, and ours, which are mmseg's.
_RENAMED = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^blocks\.(\d+)\.', r'layers.\1.'),
    (r'^layers\.(\d+)\.norm([12])\.', r'layers.\1.ln\2.'),
    (r'^layers\.(\d+)\.attn\.qkv\.', r'layers.\1.attn.attn.in_proj_'),
    (r'^layers\.(\d+)\.attn\.proj\.', r'layers.\1.attn.attn.out_proj.'),
    (r'^layers\.(\d+)\.ls1\.gamma$', r'layers.\1.attn.gamma1.weight'),
    (r'^layers\.(\d+)\.ls2\.gamma$', r'layers.\1.ffn.gamma2.weight'),
    (r'^layers\.(\d+)\.gamma_1$', r'layers.\1.attn.gamma1.weight'),
    (r'^layers\.(\d+)\.gamma_2$', r'layers.\1.ffn.gamma2.weight'),
    (r'^layers\.(\d+)\.mlp\.fc1\.', r'layers.\1.ffn.layers.0.0.'),
    (r'^layers\.(\d+)\.mlp\.fc2\.', r'layers.\1.ffn.layers.1.'),
    (r'^norm\.', 'ln1.'),
    (r'^norm_pre\.', 'ln_pre.'),
)


def convert_vit(state: StateDict) -> StateDict:
    """Keys of timm's, DINOv2's and mmpretrain's plain ViTs as those of mmseg, which ours are; others stay.

    The embedding of DeiT's distillation token is left out of the positions, since the token itself has no place.
    """
    converted: StateDict = {}
    for key, value in state.items():
        for theirs, ours in _RENAMED:
            key = re.sub(theirs, ours, key)
        converted[key] = value
    if 'dist_token' in converted and 'pos_embed' in converted:
        positions = converted['pos_embed']
        converted['pos_embed'] = torch.cat([positions[:, :1], positions[:, 2:]], dim=1)
    return converted


def fit_vit_positions(module: nn.Module, state: StateDict, prefix: str, *_: Any) -> None:
    """Resizes position embeddings to a module's own number of patches, in place.

    A hook for ``register_load_state_dict_pre_hook``. What cannot be resized stays, and loading complains of its shape.

    Args:
        module: The ViT that is about to load.
        state: Its state dict.
        prefix: Prefix of its keys there.
    """
    given = state.get(f'{prefix}pos_embed')
    if given is None or given.ndim != 3 or given.shape[1:] == module.pos_embed.shape[1:]:
        return
    rows = resize_rows(given[0, 1:], int((given.shape[1] - 1) ** 0.5), module.pos_grid)
    state[f'{prefix}pos_embed'] = torch.cat([given[:, :1], rows[None]], dim=1)


def load_vit_backbone(backbone: nn.Module, path: str, *, prefix: str | None = None) -> None:
    """Loads a pretrained plain ViT: a backbone, classifier or whole model of mmseg, mmpretrain, timm or DINOv2.

    Args:
        backbone: The backbone to fill.
        path: The checkpoint, ``.pth`` or ``.safetensors``.
        prefix: Prefix of the backbone's keys in the file; see :func:`~.checkpoints.load_backbone`.

    Raises:
        ValueError: If the file cannot be read or lacks weights of the backbone.
    """

    def fit(state: StateDict) -> StateDict:
        state = {key: as_float(value) for key, value in convert_vit(state).items()}
        fit_vit_positions(backbone, state, '')
        return state

    advice = 'embed_dims, num_layers, patch_size, patch_bias, qkv_bias, final_norm and layer_scale_init_value'
    load_backbone(backbone, path, prefix=prefix, convert=fit, optional=lambda name: False, advice=advice)


def as_float(value: Tensor) -> Tensor:
    """Weights that are stored in half precision as float32."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
