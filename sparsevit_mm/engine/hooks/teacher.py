"""The frozen model that a student is compared with."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ...apis import build_model, load_config
from ...models import SparseBackbone
from ...models.checkpoints import is_grown, read_checkpoint, state_of

__all__ = ['Teacher', 'backbone_of', 'build_teacher', 'copy_as_teacher', 'has_dense_logits', 'maps_of']

BACKBONES = ('backbone', 'img_backbone')


class Teacher(nn.Module):
    """Parts of a model, frozen and in evaluation mode.

    It lives on a hook, never inside the model that it teaches: so it is in no checkpoint, no optimizer and no bucket
    of distributed training.

    Args:
        parts: The backbone; with ``decode_head``, and ``neck`` if there is one, where logits are wanted. They keep
            the names that checkpoints know.

    Attributes:
        logits: ``[B, K, H, W]`` of the last forward pass, where they are wanted.
    """

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.logits: Tensor | None = None
        if 'decode_head' in parts:
            parts['decode_head'].conv_seg.register_forward_hook(self._keep_logits)
        self.requires_grad_(False).eval()

    def _keep_logits(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self.logits = output

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Features for what the student's backbone was called with."""
        features = backbone_of(self)(*args, **kwargs)
        if hasattr(self, 'decode_head'):
            self.decode_head(self.neck(features) if hasattr(self, 'neck') else features)
        return features

    def restore(self, path: str) -> None:
        """Take the weights of a checkpoint.

        Selectors and fast paths, which a dense pass does not use, may be missing; nothing else may.

        Raises:
            ValueError: If the file cannot be read or does not fill the teacher.
        """
        state = state_of(read_checkpoint(path), path)
        missing = [name for name, _ in self.named_parameters() if name not in state and not is_grown(name)]
        if missing:
            raise ValueError(f'checkpoint {path} lacks {len(missing)} of its parameters ({", ".join(missing[:3])})')
        try:
            self.load_state_dict(state, strict=False)
        except RuntimeError as error:
            raise ValueError(f'checkpoint {path} has other shapes: {error}') from error


def build_teacher(config: str | Path | Mapping[str, Any], checkpoint: str, with_logits: bool) -> Teacher:
    """A teacher from a config and the weights of exactly its model, on the CPU.

    Neither the default scope of the run nor torch's random generator changes.

    Args:
        config: A config file, ``mmseg::...`` for a stock one, or a config's content.
        checkpoint: The file with its weights.
        with_logits: Whether the decode head is needed.

    Raises:
        ValueError: If they cannot be made a model, or it has no dense logits but they are wanted.
    """
    scope = DefaultScope.get_current_instance()
    scope = None if scope is None else scope.scope_name
    try:
        cfg = Config(copy.deepcopy(dict(config))) if isinstance(config, Mapping) else load_config(config)
        if 'model' not in cfg:
            raise ValueError('its config has no model. Give a whole config, such as the one it was trained with.')
        cfg.setdefault('default_scope', scope)
        with DefaultScope.overwrite_default_scope(scope or 'mmengine'), torch.random.fork_rng(devices=[]):
            model = build_model(cfg, checkpoint)
        parts = _parts(model, with_logits)
    except ValueError as error:
        raise ValueError(f'the teacher of DistillationHook: {error}') from error
    return Teacher(parts)


def copy_as_teacher(student: nn.Module, with_logits: bool) -> Teacher:
    """A teacher with the present weights of a model, at sparsity 0.

    Raises:
        ValueError: If the model has no backbone, or no dense logits but they are wanted.
    """
    teacher = Teacher(copy.deepcopy(_parts(student, with_logits)))
    for module in teacher.modules():
        if isinstance(module, SparseBackbone):
            module.sparsity = 0.0
    return teacher


def _parts(model: nn.Module, with_logits: bool) -> dict[str, nn.Module]:
    names = [name for name, part in model.named_children() if part is backbone_of(model)]
    if with_logits:
        if not has_dense_logits(model):
            raise ValueError(
                f'{type(model).__name__} has no decode head with dense logits: set logit_weight=0 and distil '
                f'features only, or take a segmentor.'
            )
        names += [name for name in ('neck', 'decode_head') if isinstance(getattr(model, name, None), nn.Module)]
    return {name: getattr(model, name) for name in names}


def backbone_of(model: nn.Module) -> nn.Module:
    """The backbone of a detector, segmentor or teacher.

    Raises:
        ValueError: If there is none under a known name.
    """
    for name in BACKBONES:
        if isinstance(getattr(model, name, None), nn.Module):
            return getattr(model, name)
    raise ValueError(f'{type(model).__name__} has no {" or ".join(BACKBONES)}, whose features could be compared.')


def has_dense_logits(model: nn.Module) -> bool:
    """Whether a model has a decode head whose last layer gives logits of classes at every position."""
    return isinstance(getattr(getattr(model, 'decode_head', None), 'conv_seg', None), nn.Module)


def maps_of(features: Any) -> list[Tensor]:
    """The maps in what a backbone returns: one, or several, perhaps each with a class token."""
    if isinstance(features, Tensor):
        return [features] if features.ndim == 4 else []
    return [tensor for part in features for tensor in maps_of(part)] if isinstance(features, list | tuple) else []
