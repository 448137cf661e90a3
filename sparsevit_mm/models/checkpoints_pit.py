"""Checkpoints of PiT with the names of timm and of its authors."""

import re
from typing import Any

import torch.nn.functional as F
from torch import nn

from .checkpoints import StateDict, load_backbone
from .checkpoints_vit import as_float, convert_vit

__all__ = ['convert_pit', 'fit_pit_positions', 'load_pit_backbone']


def convert_pit(state: StateDict, stages: int = 3) -> StateDict:
    """Keys of timm's and the authors' PiT as ours; others stay.

    Args:
        state: The state dict.
        stages: How many there are; the norm of the classifier becomes that of the last one.
    """
    converted: StateDict = {}
    # timm had pooling at the end of a stage, and from 0.9 on has it at the beginning of the next one.
    before = 0 if any(key.startswith('transformers.0.pool.') for key in state) else 1
    for key, value in state.items():
        key = re.sub(r'^transformers\.(\d+)\.pool\.', lambda found: f'pools.{int(found[1]) - before}.', key)
        key = re.sub(r'^norm\.', f'norm{stages - 1}.', key)
        if block := re.match(r'^transformers\.(\d+)\.(blocks\..+)$', key):
            # A block is one of a plain ViT.
            (inner,) = convert_vit({block[2]: value})
            key = f'stages.{block[1]}.{inner.removeprefix("layers.")}'
        converted[key] = value
    return converted


def fit_pit_positions(module: nn.Module, state: StateDict, prefix: str, *_: Any) -> None:
    """Resizes position embeddings ``[1, C, H, W]`` to a module's own grid, in place.

    A hook for ``register_load_state_dict_pre_hook``. What cannot be resized stays, and loading complains of its shape.

    Args:
        module: The PiT that is about to load.
        state: Its state dict.
        prefix: Prefix of its keys there.
    """
    given, own = state.get(f'{prefix}pos_embed'), module.pos_embed
    if given is not None and given.ndim == 4 and given.shape[:2] == own.shape[:2] and given.shape != own.shape:
        size = tuple(own.shape[2:])
        state[f'{prefix}pos_embed'] = F.interpolate(given.float(), size=size, mode='bicubic', align_corners=False)


def load_pit_backbone(backbone: nn.Module, path: str, *, prefix: str | None = None) -> None:
    """Loads a pretrained PiT: a classifier of timm or of the authors, or a model with our backbone.

    Args:
        backbone: The backbone to fill.
        path: The checkpoint, ``.pth`` or ``.safetensors``.
        prefix: Prefix of the backbone's keys in the file; see :func:`~.checkpoints.load_backbone`.

    Raises:
        ValueError: If the file cannot be read or lacks weights of the backbone.
    """

    def fit(state: StateDict) -> StateDict:
        state = {key: as_float(value) for key, value in convert_pit(state, len(backbone.stages)).items()}
        fit_pit_positions(backbone, state, '')
        return state

    # Classifiers have a norm for the last stage only; the others keep their initial values.
    def optional(name: str) -> bool:
        return name.startswith('norm')

    load_backbone(backbone, path, prefix=prefix, convert=fit, optional=optional, advice='arch and num_prefix')
