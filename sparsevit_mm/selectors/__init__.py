"""Selectors: features -> scores, the highest of which stay."""

from .base import Selector, build_selector, build_window_selector, check_counts
from .class_attention import ClassAttentionSelector
from .learned import LearnedSelector
from .magnitude import MagnitudeSelector
from .multi_head import MultiHeadSelector
from .predictor import PredictorSelector
from .random import RandomSelector

__all__ = [
    'ClassAttentionSelector',
    'LearnedSelector',
    'MagnitudeSelector',
    'MultiHeadSelector',
    'PredictorSelector',
    'RandomSelector',
    'Selector',
    'build_selector',
    'build_window_selector',
    'check_counts',
]
