"""The result of a search in sentences, honest about what is not better."""

from ..results import Evaluation, Outcome

__all__ = ['CAUTION', 'front_note', 'summary']

CAUTION = (
    'Accuracies are of the search images, by which settings were chosen, so the best of them looks a little better '
    'than it is. Test what you take on images that had no part in the search.'
)
_FRONT = 'Front: no other evaluated setting is both cheaper and at least as good.'
_NEAR_BUDGET = (
    'Under a budget the search tries settings that use it up, so that below it little but the uniform settings is '
    'known; search without a budget for the whole front.'
)


def front_note(outcome: Outcome) -> str:
    """What the front is, and where little is known of it."""
    return f'{_FRONT} {_NEAR_BUDGET}' if outcome.has_budget else _FRONT


def summary(outcome: Outcome) -> list[str]:
    """The result in a few sentences, the most important one first."""
    if outcome.best is None:
        return ['Nothing within the budget is evaluated yet.' if outcome.has_budget else 'Nothing is evaluated yet.']
    return _of_a_budget(outcome, outcome.best) if outcome.has_budget else _of_a_front(outcome, outcome.front)


def _of_a_budget(outcome: Outcome, best: Evaluation) -> list[str]:
    dense = f' (dense: {outcome.dense.accuracy:.4g})' if outcome.dense else ''
    first = f'Best within the budget: {_figures(outcome, best)}{dense}.'
    if len(outcome.sites) == 1:
        return [first]
    rival = outcome.best_uniform
    if rival is None:
        return [first, 'No uniform setting within the budget has been evaluated.']
    if best.uniform:
        evaluations = f'{len(outcome.evaluations)} evaluation{"s" * (len(outcome.evaluations) != 1)}'
        return [first, f'It is a uniform setting: nothing better was found in {evaluations}.']
    name = f'The best uniform setting within it, {rival.sparsity[0]:g}, '
    gain, share = outcome.gain(best, rival), outcome.share(rival.cost)
    if gain == 0:
        return [first, f'{name}is as accurate at {share:.3f} of the dense cost.']
    return [first, f'{name}reaches {rival.accuracy:.4g} at {share:.3f}, which is {gain:.3g} worse.']


def _of_a_front(outcome: Outcome, front: list[Evaluation]) -> list[str]:
    first, last, dense = front[0], front[-1], outcome.dense
    reference = f' (dense: {dense.accuracy:.4g})' if dense else ''
    text = f'The front has {len(front)} settings, from {_figures(outcome, first)} to {_figures(outcome, last)}'
    if len(front) == 1:
        text = f'One setting is both the cheapest and the best: {_figures(outcome, first)}'
    sentences = [f'{text}{reference}.', *_about_uniform(outcome, front)]
    as_good = [e for e in front if dense and outcome.gain(e, dense) >= 0 and any(e.sparsity)]
    if as_good:
        share = outcome.share(as_good[0].cost)
        sentences.append(f'The cheapest setting that is at least as accurate as dense costs {share:.3f} of it.')
    elif dense:
        sentences.append('None of the sparse settings that were evaluated is as accurate as dense.')
    return sentences


def _about_uniform(outcome: Outcome, front: list[Evaluation]) -> list[str]:
    """How the front compares with settings that need no search."""
    rivals = [e for e in outcome.uniform if any(e.sparsity)]
    if not rivals or len(outcome.sites) == 1:
        return []
    numbers = {e.number for e in front}
    on_it = sum(e.number in numbers for e in rivals)
    text = f'Of {len(rivals)} uniform settings {on_it or "none"} {"lie" if on_it > 1 else "lies"} on it'
    gains = []
    for rival in rivals:
        no_dearer = [e for e in front if e.cost <= rival.cost]
        gains += [(outcome.gain(no_dearer[-1], rival), rival)] if no_dearer else []
    gain, rival = max(gains, key=lambda pair: pair[0], default=(0.0, None))
    if gain <= 0:
        return [f'{text}.']
    return [f'{text}; at no more than their cost it is up to {gain:.3g} better (at uniform {rival.sparsity[0]:g}).']


def _figures(outcome: Outcome, e: Evaluation) -> str:
    return f'{outcome.metric_name} {e.accuracy:.4g} at {outcome.share(e.cost):.3f} of the dense cost'
