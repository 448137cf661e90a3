"""The files that a search leaves: tables, a picture, and a report that says how the numbers came about."""

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from .budget import format_cost
from .plot import plot_outcome
from .results import Evaluation, Outcome

__all__ = ['format_sparsity', 'report_text', 'table_rows', 'write_report']


_NEAR_BUDGET = (
    'Under a budget the search tries settings that use it up, so that below it little but the uniform settings is '
    'known; search without a budget for the whole front.'
)


def write_report(outcome: Outcome, folder: str | os.PathLike, facts: Mapping[str, str], title: str = '') -> list[Path]:
    """Writes ``pareto.csv``, ``candidates.csv``, ``pareto.png`` and ``report.md``.

    Each file is replaced as a whole, so that an interrupted report leaves the one before.

    Args:
        outcome: The study as it stands.
        folder: Where the files go.
        facts: What was searched, on what, and how: lines of the report.
        title: What was searched, in short.

    Returns:
        The files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    front = outcome.front
    on_front = {e.number for e in front}
    _write(folder / 'pareto.csv', _csv(outcome, front, on_front))
    everything = [*([outcome.dense] if outcome.dense and outcome.dense.number < 0 else []), *outcome.evaluations]
    _write(folder / 'candidates.csv', _csv(outcome, everything, on_front))
    plot_outcome(outcome, folder / 'pareto.png', title)
    _write(folder / 'report.md', report_text(outcome, facts, title))
    return [folder / name for name in ('report.md', 'pareto.png', 'pareto.csv', 'candidates.csv')]


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f'.{os.getpid()}.{path.name}')
    unfinished.write_text(text)
    unfinished.replace(path)


def _csv(outcome: Outcome, evaluations: Iterable[Evaluation], on_front: set[int]) -> str:
    """One line a setting, sites in columns."""
    metrics = list(dict.fromkeys(key for e in outcome.evaluations for key in e.metrics if key != outcome.metric))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator='\n')
    head = ['trial', outcome.metric or 'accuracy', f'cost [{outcome.unit}]', 'fraction of dense', 'within budget']
    writer.writerow([*head, 'on front', 'seconds', *outcome.sites, *metrics])
    for e in evaluations:
        fraction = round(e.cost / outcome.dense_cost, 6)
        flags = [int(e.feasible), int(e.number in on_front)]
        row = ['dense' if e.number < 0 else e.number, e.accuracy, e.cost, fraction, *flags, round(e.seconds, 3)]
        writer.writerow([*row, *e.sparsity, *(e.metrics.get(key, '') for key in metrics)])
    return file.getvalue()


def format_sparsity(sparsity: Iterable[float]) -> str:
    """A vector as a config has it."""
    return f'({", ".join(f"{value:g}" for value in sparsity)})'


def table_rows(outcome: Outcome) -> list[tuple[str, Evaluation]]:
    """What is worth comparing, with a name each: dense, uniform, the front, the best."""
    best = outcome.best
    rows = [('dense', outcome.dense)] if outcome.dense else []
    rows += [(f'uniform {e.sparsity[0]:g}', e) for e in outcome.uniform if e.sparsity and any(e.sparsity)]
    rows += [('front', e) for e in outcome.front if not e.uniform and e is not best]
    return rows + ([('found', best)] if best else [])


def report_text(outcome: Outcome, facts: Mapping[str, str], title: str = '') -> str:
    """The report in Markdown."""
    metric = outcome.metric_name
    lines = [f'# Sparsity search{": " + title if title else ""}', '', *_summary(outcome, metric), '']
    lines += ['![accuracy against cost](pareto.png)', '', '## What was found', '']
    lines += [
        f'| setting | sparsity of {", ".join(outcome.sites)} | {metric} | cost | of dense |',
        '|---|---|--:|--:|--:|',
    ]
    for name, e in table_rows(outcome):
        cost = format_cost(e.cost, outcome.unit)
        name = f'**{name}**' if name == 'found' else name
        sparsity = format_sparsity(e.sparsity)
        lines.append(f'| {name} | {sparsity} | {e.accuracy:.4g} | {cost} | {e.cost / outcome.dense_cost:.3f} |')
    lines += ['', 'Front: no other evaluated setting is both cheaper and at least as good. ' + _NEAR_BUDGET, '']
    lines += ['## How', '']
    lines += [f'- {name}: {text}' for name, text in {**facts, **_counts(outcome)}.items()]
    return '\n'.join(lines) + '\n'


def _summary(outcome: Outcome, metric: str) -> list[str]:
    """The result in a sentence or two, honest about what is not better."""
    best, sign = outcome.best, 1 if outcome.higher_is_better else -1
    if best is None:
        return ['Nothing within the budget is evaluated yet.']
    share = best.cost / outcome.dense_cost
    text = f'Best within the budget: {metric} {best.accuracy:.4g} at {share:.3f} of the dense cost'
    if outcome.dense:
        text += f' (dense: {outcome.dense.accuracy:.4g})'
    uniform = [e for e in outcome.uniform if e.feasible]
    if not uniform:
        return [f'{text}. No uniform setting is within the budget.']
    rival = max(uniform, key=lambda e: sign * e.accuracy)
    if best.uniform:
        return [f'{text}. It is a uniform setting: nothing better was found in {len(outcome.evaluations)} evaluations.']
    return [f'{text}. The best uniform setting within it, {rival.sparsity[0]:g}, reaches {rival.accuracy:.4g}.']


def _counts(outcome: Outcome) -> dict[str, str]:
    counts = (
        {'Metric': f'{outcome.metric}, {"higher" if outcome.higher_is_better else "lower"} is better'}
        if outcome.metric
        else {}
    )
    planned = f' of {outcome.trials}' if outcome.trials else ''
    seconds = sum(e.seconds for e in outcome.evaluations)
    counts |= {
        'Evaluations': f'{len(outcome.evaluations)}{planned}, {seconds:.0f} s in all, from a space of '
        f'{outcome.space_size:,} settings; the dense reference is not counted',
        'Not evaluated': f'{outcome.over_budget} proposals over budget, {outcome.duplicates} known already',
        'Cost': f'dense {format_cost(outcome.dense_cost, outcome.unit)}, least '
        f'{format_cost(outcome.least_cost, outcome.unit)} ({outcome.least_cost / outcome.dense_cost:.3f} of dense)',
    }
    if math.isfinite(outcome.limit):
        counts['Budget'] = (
            f'{format_cost(outcome.limit, outcome.unit)} ({outcome.limit / outcome.dense_cost:.3f} of dense)'
        )
    if outcome.interrupted:
        counts['Interrupted'] = f'{outcome.interrupted} evaluations were cut off and run again'
    if outcome.failed:
        counts['Failed'] = f'trials {", ".join(map(str, outcome.failed))}; the log says why'
    return counts
