"""Hooks of mmengine's runners: sparsity in training, losses of selectors and teachers, logs, pictures."""

from .backbone_freeze_hook import BackboneFreezeHook
from .distillation_hook import DistillationHook
from .keep_ratio_loss_hook import KeepRatioLossHook
from .sparsity_adaptation_hook import SparsityAdaptationHook
from .sparsity_log_hook import SparsityLogHook
from .sparsity_schedule_hook import SparsityScheduleHook
from .sparsity_visualization_hook import SparsityVisualizationHook

__all__ = [
    'BackboneFreezeHook',
    'DistillationHook',
    'KeepRatioLossHook',
    'SparsityAdaptationHook',
    'SparsityLogHook',
    'SparsityScheduleHook',
    'SparsityVisualizationHook',
]
