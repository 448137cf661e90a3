"""A sparse model learns from a dense one."""

import logging
import os
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...models.losses import feature_distillation_loss, logit_distillation_loss
from ...registry import HOOKS
from .loss_hook import LossHook, is_loss
from .teacher import Teacher, backbone_of, build_teacher, copy_as_teacher, has_dense_logits, maps_of

__all__ = ['DistillationHook']

#: Under this key a checkpoint says which file the teacher came from.
SOURCE = 'distillation_teacher'


@HOOKS.register_module()
class DistillationHook(LossHook):
    """Adds the distance to a frozen teacher to the losses (DynamicViT, arXiv 2106.02034 and 2207.01580).

    ``loss_distill_feature`` compares the maps of the backbones, ``loss_distill_logits`` the logits of the decode heads
    of segmentors. The teacher sees the images that the student's backbone got, right after it and under the same
    autocast, in evaluation mode and without gradients. It is in no checkpoint, no optimizer and no bucket of
    distributed training::

        custom_hooks = [
            dict(
                type='sparsevit_mm.DistillationHook',
                teacher=dict(config='mmseg::swin/swin-tiny-...-512x512.py', checkpoint='swin_tiny.pth'),
            )
        ]

    ``teacher='self'`` is the student as it is when training begins, at sparsity 0: give the dense weights by
    ``load_from``. A resumed run reads that file again, since its own weights have moved on.

    Args:
        teacher: ``'self'``, or a dict with ``config`` (a file, ``mmseg::...``, or a config's content) and
            ``checkpoint``, the weights of exactly that model.
        feature_weight: Factor of the mean squared error of the maps; 0 leaves them out.
        logit_weight: Factor of the Kullback-Leibler divergence of the logits; 0 leaves them out. None is 0.5 for
            segmentors with dense logits and 0 for other models.
        temperature: By which logits are divided.
        kept_only: Whether maps are compared only where the student computed them, as DynamicViT does with its tokens.
            Features of tokens that PrunedViT dropped are as they were, and comparing them only asks to drop none.

    Raises:
        ValueError: If an option is not valid; when training starts, if the teacher cannot be built or the model has
            no part to compare; in the first iteration, if shapes differ.
    """

    def __init__(
        self,
        teacher: str | Mapping[str, Any] = 'self',
        feature_weight: float = 0.5,
        logit_weight: float | None = None,
        temperature: float = 1.0,
        kept_only: bool = False,
    ) -> None:
        super().__init__()
        if teacher != 'self' and not (isinstance(teacher, Mapping) and set(teacher) == {'config', 'checkpoint'}):
            raise ValueError(
                f"teacher of DistillationHook must be 'self' or dict(config=..., checkpoint=...), got {teacher!r}."
            )
        _check_number('feature_weight', feature_weight, zero=True)
        if logit_weight is not None:
            _check_number('logit_weight', logit_weight, zero=True)
        _check_number('temperature', temperature, zero=False)
        if feature_weight == 0 and logit_weight == 0:
            raise ValueError('feature_weight and logit_weight are both 0: DistillationHook would compare nothing.')
        self.teacher = teacher
        self.feature_weight = feature_weight
        self.logit_weight = logit_weight
        self.temperature = temperature
        self.kept_only = kept_only
        self._source: str | None = None
        self._distances: dict[str, list[Tensor]] = {}
        self._active = False

    def attach(self, runner: Runner, model: nn.Module) -> Iterable[RemovableHandle]:
        """Make the teacher; sit on the parts of the model that are compared with it."""
        weight = self.logit_weight
        if weight is None:
            weight = 0.5 if has_dense_logits(model) else 0.0
        if weight == 0 and self.feature_weight == 0:
            raise ValueError(f'feature_weight is 0 and {type(model).__name__} has no dense logits: nothing to compare.')
        if weight > 0 and not has_dense_logits(model):
            raise ValueError(
                f'logit_weight={weight} of DistillationHook needs a decode head with dense logits, which '
                f'{type(model).__name__} has not: set logit_weight=0 and distil features only.'
            )
        self._weights = dict(loss_distill_feature=self.feature_weight, loss_distill_logits=weight)
        teacher = self._make_teacher(runner, model, with_logits=weight > 0)
        teacher.to(next(model.parameters()).device)
        return self._watch(model, teacher, with_logits=weight > 0)

    def _make_teacher(self, runner: Runner, model: nn.Module, with_logits: bool) -> Teacher:
        if self.teacher != 'self':
            return build_teacher(self.teacher['config'], self.teacher['checkpoint'], with_logits)
        teacher = copy_as_teacher(model, with_logits)
        instead = 'give teacher=dict(config=..., checkpoint=...)'
        if runner.iter == 0:
            start = runner._load_from
            self._source = str(start) if start and '://' in str(start) else start and os.path.abspath(start)
            if not start:
                print_log(
                    "teacher='self' without load_from: DistillationHook holds the model to the weights that it was "
                    f'built with, and a resumed run could not find them again. Set load_from, or {instead}.',
                    'current',
                    logging.WARNING,
                )
            return teacher
        if not self._source:
            raise ValueError(
                f"teacher='self' is the model at the beginning of training, but this run is resumed at iteration "
                f'{runner.iter} and its checkpoint names no file with those weights: {instead}.'
            )
        try:
            teacher.restore(self._source)
        except ValueError as error:
            raise ValueError(f"teacher='self' cannot be made again for a resumed run: {error}; {instead}.") from error
        return teacher

    def _watch(self, model: nn.Module, teacher: Teacher, with_logits: bool) -> list[RemovableHandle]:
        backbone = backbone_of(model)

        def begin(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            if module is model:
                self._active = is_loss(args, kwargs)
                self._distances = {name: [] for name, weight in self._weights.items() if weight > 0}

        def see_features(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
            if module is not backbone or not self._active:
                return
            theirs, ours = maps_of(teacher(*args, **kwargs)), maps_of(output)
            if self.feature_weight == 0:
                return
            if not ours:
                raise ValueError(f'{type(backbone).__name__} gives no [B, C, H, W] maps: set feature_weight=0.')
            computed = getattr(backbone, 'computed_positions', {}) if self.kept_only else {}
            distance = feature_distillation_loss(ours, theirs, computed)
            self._distances['loss_distill_feature'].append(distance)

        def see_logits(module: nn.Module, args: tuple, output: Tensor) -> None:
            if module is not model.decode_head.conv_seg or not self._active:
                return
            distance = logit_distillation_loss(output, teacher.logits, self.temperature)
            self._distances['loss_distill_logits'].append(distance)

        handles = [
            model.register_forward_pre_hook(begin, with_kwargs=True),
            backbone.register_forward_hook(see_features, with_kwargs=True),
        ]
        if with_logits:
            handles.append(model.decode_head.conv_seg.register_forward_hook(see_logits))
        return handles

    def terms(self) -> dict[str, Tensor]:
        """The weighted distances of the forward pass that has just run."""
        self._active = False
        distances, self._distances = self._distances, {}
        for name in (name for name, values in distances.items() if not values):
            option = 'feature_weight' if name == 'loss_distill_feature' else 'logit_weight'
            raise ValueError(
                f'{name} has nothing to compare: in this model the backbone, or conv_seg of the decode head, was not '
                f'called in the forward pass. Set {option}=0 of DistillationHook.'
            )
        return {name: self._weights[name] * torch.stack(values).mean() for name, values in distances.items()}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note which file the teacher came from, not the teacher."""
        if self._source:
            checkpoint[SOURCE] = self._source

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Read that note; it counts where the run is resumed."""
        self._source = checkpoint.get(SOURCE)


def _check_number(option: str, value: Any, zero: bool) -> None:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value < float('inf') or (value == 0 and not zero):
        at_least = '0 or more' if zero else 'above 0'
        raise ValueError(f'{option} of DistillationHook must be a number, {at_least}, got {value!r}.')
