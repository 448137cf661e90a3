"""Evaluations as a table for other programs."""

import csv
import io
from collections.abc import Iterable

from ..results import Evaluation, Outcome

__all__ = ['csv_text']


def csv_text(outcome: Outcome, evaluations: Iterable[Evaluation]) -> str:
    """One line a setting, sites in columns.

    Args:
        outcome: The study they belong to.
        evaluations: The settings; the dense reference, which is no trial, is called ``dense``.
    """
    on_front = {e.number for e in outcome.front}
    metrics = list(dict.fromkeys(key for e in outcome.evaluations for key in e.metrics if key != outcome.metric))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    head = ['trial', outcome.metric or 'accuracy', f'cost [{outcome.unit}]', 'fraction of dense', 'within budget']
    writer.writerow([*head, 'on front', 'seconds', *outcome.sites, *metrics])
    for e in evaluations:
        flags = [int(e.feasible), int(e.number in on_front)]
        numbers = [e.accuracy, e.cost, round(outcome.share(e.cost), 6), *flags, round(e.seconds, 3)]
        values = (e.metrics.get(key, '') for key in metrics)
        writer.writerow(['dense' if e.number < 0 else e.number, *numbers, *e.sparsity, *values])
    return file.getvalue()
