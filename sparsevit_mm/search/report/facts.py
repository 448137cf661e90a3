"""How the numbers of a search came about: lines of a report, by name."""

import platform
from importlib.metadata import PackageNotFoundError, version

from ...version import __version__
from ..budget import format_cost
from ..results import Outcome

__all__ = ['cost_facts', 'environment_facts', 'search_facts', 'space_facts']

_PACKAGES = ('torch', 'mmengine', 'mmcv', 'mmcv-lite', 'mmdet', 'mmsegmentation', 'mmdet3d', 'optuna', 'numpy')


def cost_facts(outcome: Outcome) -> dict[str, str]:
    """The cost that others are compared with, and the budget."""
    facts = {'Dense': format_cost(outcome.dense_cost, outcome.unit)}
    if outcome.has_budget:
        facts['Budget'] = _amount(outcome, outcome.limit)
    return facts


def space_facts(outcome: Outcome) -> dict[str, str]:
    """How many settings there are, and what they cost."""
    facts = {'Settings': f'{outcome.space_size:,} over {len(outcome.sites)} sites'}
    if outcome.has_budget and outcome.feasible_size is not None:
        share = outcome.feasible_size / outcome.space_size
        facts['Within the budget'] = f'{outcome.feasible_size:,} settings ({share:.1%})'
    facts['Least cost'] = _amount(outcome, outcome.least_cost)
    facts['Greatest cost'] = _amount(outcome, outcome.greatest_cost)
    return facts


def search_facts(outcome: Outcome) -> dict[str, str]:
    """What was tried, and what came of it."""
    facts = {}
    if outcome.metric:
        facts['Metric'] = f'{outcome.metric}, {"higher" if outcome.higher_is_better else "lower"} is better'
    seconds = sum(e.seconds for e in outcome.evaluations)
    done = len(outcome.evaluations) + outcome.stopped_early
    facts['Candidates'] = f'{done}{f" of {outcome.trials}" if outcome.trials else ""}'
    facts['Evaluated on all images'] = (
        f'{len(outcome.evaluations)}, {seconds:.0f} s in all; the dense reference is not counted'
    )
    if outcome.stopped_early:
        facts['Stopped early'] = (
            f'{outcome.stopped_early} candidates after part of the images, which saved {outcome.saved:.0%} of the '
            f'evaluation of all candidates'
        )
    if outcome.duplicates:
        facts['Not evaluated'] = f'{outcome.duplicates} proposals that were known already'
    if outcome.interrupted:
        facts['Interrupted'] = f'{outcome.interrupted} (cut off in an evaluation, and run again)'
    if outcome.failed:
        facts['Failed'] = f'trials {", ".join(map(str, outcome.failed))}; the log says why'
    facts['Workers'] = f'{outcome.workers} process{"es" * (outcome.workers != 1)}'
    return facts


def environment_facts() -> dict[str, str]:
    """Versions of what wrote the report; nothing is imported for them."""
    versions = {'sparsevit_mm': __version__}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    system = f'Python {platform.python_version()}, {platform.system()} {platform.release()} {platform.machine()}'
    return {'System': system, 'Packages': ', '.join(f'{name} {number}' for name, number in versions.items())}


def _amount(outcome: Outcome, cost: float) -> str:
    return f'{format_cost(cost, outcome.unit)} ({outcome.share(cost):.3f} of dense)'
