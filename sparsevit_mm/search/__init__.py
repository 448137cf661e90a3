"""Searching the sparsity of every site: needs neither torch nor mmcv, and Optuna only where a study is opened.

All that a search of a model of any kind takes is here: a space of settings, a cost model, and a study to ask and tell.
"""

from ..sparsity import SparsityLayout, SparsitySpace
from .budget import Budget, CostModel, format_cost
from .metrics import higher_is_better, pick_metric
from .report import format_sparsity, write_report
from .results import Candidate, Evaluation, Outcome, best_of, front_of
from .study import SparsityStudy

__all__ = [
    'Budget',
    'Candidate',
    'CostModel',
    'Evaluation',
    'Outcome',
    'SparsityLayout',
    'SparsitySpace',
    'SparsityStudy',
    'best_of',
    'format_cost',
    'format_sparsity',
    'front_of',
    'higher_is_better',
    'pick_metric',
    'write_report',
]
