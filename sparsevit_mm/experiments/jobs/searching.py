"""Searching a sparsity within a budget."""

from collections.abc import Iterable
from typing import Any

from ...config import load_config
from ...cost import LatencyTable
from ...search.found_configs import BEST
from .job import Job

__all__ = ['search_run']

TABLE = 'latency_table.json'


def search_run(job: Job) -> dict[str, Any]:
    """Search by the project's tool, going on with what an earlier start has evaluated.

    Options are ``checkpoint``, ``budget`` (a fraction of dense), ``table`` (the latencies of a calibration, which may
    have been made elsewhere), ``trials`` and ``search_images``, and ``rungs`` where there are any. Candidates are
    scored on training images.

    Returns:
        The ``sparsity`` of the best setting within the budget, its ``ratio`` of the dense latency by the table, and
        the ``report``.

    Raises:
        ValueError: If the search fails by a mistake in its options, or found nothing within the budget.
    """
    options, folder = job.options, job.folder / 'search'
    table, path = LatencyTable.from_dict(options['table']), job.folder / TABLE
    table.save(path)
    words = [str(job.config), str(options['checkpoint']), '--work-dir', str(folder), '--resume']
    # The table is of the machine that the suite was calibrated on, which need not be this one.
    words += ['--budget', str(options['budget']), '--latency-table', str(path), '--foreign']
    words += ['--trials', str(options['trials']), '--search-images', str(options['search_images'])]
    words += ['--seed', str(job.seed or 0), *_words('--rungs', options.get('rungs', ()))]
    job.tool('search_sparsity.py', words)
    if not (folder / BEST).exists():
        raise ValueError(f'the search found nothing within {options["budget"]:.0%} of the dense latency.')
    sparsity = load_config(folder / BEST).model.backbone.sparsity
    return {
        'sparsity': list(sparsity),
        'ratio': table.predict(sparsity) / table.dense,
        'report': job.file(folder / 'report.html'),
    }


def _words(option: str, values: Iterable[Any]) -> list[str]:
    values = [str(value) for value in values]
    return [option, *values] if values else []
