"""What the found setting really takes: measured in the end, beside what it was predicted to take."""

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from ..budget import format_cost
from ..results import Evaluation, Measured, Outcome

if TYPE_CHECKING:
    from torch import nn

__all__ = ['latency_sentences', 'measure_final', 'settings_to_measure']

_DRIFT = 0.05  # of the dense latency since the search began, relative, from which on it is worth a sentence


def settings_to_measure(outcome: Outcome) -> tuple[tuple[float, ...], ...]:
    """Dense, the best uniform setting and the best one, without repetitions; dense alone before a result.

    Without a budget it is the front in the place of the best one, at most eight settings spread over it.
    """
    best, rival = outcome.best, outcome.best_uniform
    chosen = [(0.0,) * len(outcome.sites)]
    if outcome.has_budget:
        chosen += [e.sparsity for e in (rival, best) if e]
    else:
        chosen += [e.sparsity for e in _spread(outcome.front, 8)]
    return tuple(dict.fromkeys(chosen))


def _spread(front: Sequence[Evaluation], number: int) -> list[Evaluation]:
    if len(front) <= number:
        return list(front)
    return [front[round(i * (len(front) - 1) / (number - 1))] for i in range(number)]


def measure_final(
    backbone: 'nn.Module',
    shape: tuple[int, int],
    sparsities: Sequence[float | Sequence[float]],
    *,
    batch: int = 1,
    dtype: str = 'float32',
    device: str = 'cpu',
    rounds: int = 10,
    rest: float = 0.0,
) -> tuple[Measured, ...]:
    """Times a backbone at several settings in alternation, so that whatever slows the machine meets all of them.

    Args:
        backbone: One of ours; it comes back as it was.
        shape: Height and width in pixels.
        sparsities: The settings, such as :func:`settings_to_measure` gives them.
        batch: Images in one forward.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        device: Where it is measured.
        rounds: Values that median and quartiles are taken over.
        rest: Seconds that are added to each, where the cost of the search is that of the whole model.

    Raises:
        ValueError: If the conditions cannot be had, or a sparsity does not fit the backbone.
    """
    from ...cost import measure_latency

    settings = [backbone.sparsity_layout.normalize(sparsity) for sparsity in sparsities]
    records = measure_latency(
        backbone, shape, sparsities=settings, batch=batch, dtype=dtype, device=device, rounds=rounds
    )
    times = ((record.median + rest, record.q1 + rest, record.q3 + rest) for record in records)
    return tuple(Measured(setting, *values) for setting, values in zip(settings, times))


def latency_sentences(outcome: Outcome, measured: Sequence[Measured]) -> list[str]:
    """What the measurements say about the prediction and the budget; nothing where dense was not measured."""
    times = {m.sparsity: m for m in measured}
    dense = times.get((0.0,) * len(outcome.sites))
    if dense is None:
        return []
    sentences = _about_found(outcome, times, dense) if outcome.has_budget else _about_front(outcome, times, dense)
    drift = dense.median / outcome.dense_cost - 1
    if sentences and outcome.unit == 's' and abs(drift) > _DRIFT:
        faster = 'longer' if drift > 0 else 'shorter'
        sentences.append(
            f'Dense itself took {abs(drift):.0%} {faster} than what the search counted with: trust the fractions, not '
            f'the milliseconds.'
        )
    return sentences


def _about_found(outcome: Outcome, times: dict[tuple[float, ...], Measured], dense: Measured) -> list[str]:
    best, rival = outcome.best, outcome.best_uniform
    found = times.get(best.sparsity) if best else None
    if found is None:
        return []
    share, predicted = found.median / dense.median, outcome.share(best.cost)
    counted = 'predicted' if outcome.unit == 's' else f'{outcome.unit}:'
    takes = f'{format_cost(found.median, "s")}, {share:.3f} of dense ({counted} {predicted:.3f})'
    text = f'Measured in alternation, the found setting takes {takes}'
    if outcome.unit == 's':
        text += f': {_verdict(share, found.q1 / dense.median, outcome.share(outcome.limit))}'
    sentences = [f'{text}.']
    if rival and rival is not best and rival.sparsity in times:
        sentences.append(f'The best uniform setting takes {times[rival.sparsity].median / dense.median:.3f}.')
    return sentences


def _verdict(share: float, lower: float, limit: float) -> str:
    """Whether a measured fraction of dense keeps the budget."""
    if share <= limit:
        return f'within the budget of {limit:.3f}'
    doubt = ', within the spread of the measurement' if lower <= limit else ''
    return f'{share / limit - 1:.1%} over the budget of {limit:.3f}{doubt}'


def _about_front(outcome: Outcome, times: dict[tuple[float, ...], Measured], dense: Measured) -> list[str]:
    errors = [
        abs(outcome.share(e.cost) / (times[e.sparsity].median / dense.median) - 1)
        for e in outcome.front
        if e.sparsity in times and any(e.sparsity)
    ]
    if not errors or outcome.unit != 's':
        return []
    settings = f'{len(errors)} settings' if len(errors) > 1 else 'one setting'
    return [
        f'Measured in alternation with dense, {settings} of the front departed from the predicted fraction by '
        f'{median(errors):.1%} in the median and {max(errors):.1%} at most.'
    ]
