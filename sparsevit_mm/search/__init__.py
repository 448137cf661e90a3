"""Searching the sparsity of every site: needs neither torch nor mmcv, and Optuna only where a study is opened."""

from .budget import Budget, CostModel, format_cost
from .metrics import higher_is_better, pick_metric
from .results import Candidate, Evaluation, Outcome, best_of, front_of
from .study import SparsityStudy

__all__ = [
    'Budget',
    'Candidate',
    'CostModel',
    'Evaluation',
    'Outcome',
    'SparsityStudy',
    'best_of',
    'format_cost',
    'front_of',
    'higher_is_better',
    'pick_metric',
]
