"""The command line of the search: its options, and what they mean for the loop."""

import argparse
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .budget import Budget
from .costs import COST_MODELS, OF_LATENCY

if TYPE_CHECKING:
    from .session import SearchOptions

__all__ = ['add_search_options', 'loop_options', 'words_of']

# Options that the loop takes under the same names where they are given.
_PASSED = (
    *('budget_metric', 'shape', 'batch', 'dtype', 'device', *OF_LATENCY),
    *('trials', 'search_images', 'rungs', 'metric', 'higher_is_better', 'choices', 'seed'),
    *('storage', 'study_name', 'heartbeat', 'grace'),
)


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Adds all that a user decides about a search; what is left out is None."""
    _add_cost_options(parser.add_argument_group('what a setting may cost, and how that is known'))
    _add_scoring_options(parser.add_argument_group('what candidates there are, and how they are scored'))
    add = parser.add_argument_group('where the study is').add_argument
    add('--storage', metavar='URL', help='database of the study (default: study.sqlite3 in the work dir)')
    add('--study-name', metavar='NAME', help='of the study in the database (default: sparsity)')
    add('--heartbeat', type=int, metavar='SECONDS', help='between signs of life for other processes (default: 30)')
    add('--grace', type=int, metavar='SECONDS', help='of silence until others take up what one was at (default: 120)')


def _add_cost_options(group: argparse._ArgumentGroup) -> None:
    budget, add = group.add_mutually_exclusive_group(), group.add_argument
    budget.add_argument('--budget', help='a fraction of dense such as 0.6, or an amount such as 30ms or 60G')
    budget.add_argument('--budget-ms', metavar='MS', help='milliseconds of latency')
    budget.add_argument('--budget-macs', metavar='MACS', help='such as 60G, or a fraction of dense')
    budget.add_argument('--pareto', action='store_true', help='no budget: search the front of accuracy and cost')
    add('--budget-metric', choices=list(COST_MODELS), help='what --budget and --pareto count (default: latency)')
    add('--shape', nargs=2, type=int, metavar=('H', 'W'), help='pixels of what is costed (default: first image)')
    add('--batch', type=int, help='images in one forward of the latency (default: 1)')
    add('--dtype', choices=('float32', 'bfloat16', 'float16'), help='of the latency (default: float32)')
    add('--device', help='of the latency, cpu or cuda (default: where the model runs)')
    add('--latency-table', metavar='JSON', help='of tools/latency_table.py (default: measure one at the beginning)')
    flag = {'action': 'store_const', 'const': True}
    add('--foreign', **flag, help='that table may be of another device')
    add('--whole-model', **flag, help='latency of the whole model, not of its backbone alone')
    add('--latency-rounds', type=int, metavar='N', help='values of each latency (default: 10, or what minutes allow)')


def _add_scoring_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add('--trials', type=int, help='candidates in all, earlier and other processes included (default: 100)')
    add('--choices', nargs='+', type=float, metavar='S', help='sparsities a site may have (default: 0 0.1 ... 0.8)')
    add('--search-images', type=int, metavar='N', help='training images to score on (default: half, at most 500)')
    add('--rungs', nargs='+', type=_rung, metavar='F', help='fractions or numbers of images to stop weak ones after')
    add('--metric', help='name among what the evaluator gives (default: its primary one)')
    direction, constant = group.add_mutually_exclusive_group(), {'dest': 'higher_is_better', 'action': 'store_const'}
    direction.add_argument('--higher-is-better', **constant, const=True, help='of the metric (default: by its name)')
    direction.add_argument('--lower-is-better', **constant, const=False, help='likewise')
    add('--seed', type=int, help='of the search and of the choice of images (default: 0)')


def loop_options(args: argparse.Namespace, configured: Mapping[str, Any]) -> dict[str, Any]:
    """The options of :class:`sparsevit_mm.engine.loops.SparsitySearchLoop`.

    Args:
        args: The command line, see :func:`add_search_options`.
        configured: What the config says; the command line overrides it.

    Raises:
        ValueError: If there is no budget or it cannot be read, or if options contradict each other.
    """
    given = {name: getattr(args, name) for name in _PASSED if getattr(args, name) is not None} | _budget(args)
    options = {**configured, **given}
    if args.pareto and args.rungs is None:
        options.pop('rungs', None)  # of the config, for its budget
    _check(options, given)
    return options


def _budget(args: argparse.Namespace) -> dict[str, Any]:
    """The budget and what it counts as the loop takes them; nothing where the command line names no budget.

    Raises:
        ValueError: If the budget cannot be read, or counts something else than --budget-metric.
    """
    for option, value, metric in (
        ('--budget-ms', args.budget_ms, 'latency'),
        ('--budget-macs', args.budget_macs, 'macs'),
    ):
        if value is None:
            continue
        if args.budget_metric not in (None, metric):
            raise ValueError(
                f'{option} is a budget of {metric}, but --budget-metric is {args.budget_metric}: leave one of them out.'
            )
        return {'budget': _milliseconds(value) if metric == 'latency' else _macs(value), 'budget_metric': metric}
    if args.pareto:
        return {'budget': None}
    return {} if args.budget is None else {'budget': _number(args.budget)}


def _check(options: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Find options that contradict each other.

    Args:
        options: All options of the search, those of the config included.
        given: Those of the command line.

    Raises:
        ValueError: If there are any, or no budget.
    """
    if 'budget' not in options:
        raise ValueError(
            '--budget is missing: give a fraction of the dense cost such as --budget 0.6, an amount by --budget-ms or '
            '--budget-macs, or --pareto for the whole front.'
        )
    metric = options.get('budget_metric', 'latency')
    about = [f'--{name.replace("_", "-")}' for name in OF_LATENCY if given.get(name)]
    if metric != 'latency' and about:
        raise ValueError(
            f'{", ".join(about)}: only of use for a budget of latency, but {metric} are counted. Leave it out, or give '
            f'--budget-ms or --budget-metric latency.'
        )
    if options.get('foreign') and not options.get('latency_table'):
        raise ValueError('--foreign is about the device of a latency table: give one by --latency-table.')
    if options.get('foreign') and options.get('whole_model'):
        raise ValueError(
            '--whole-model times neck and heads on this machine, but with --foreign the latency table is of another '
            'one: leave out either.'
        )
    if options['budget'] is None and options.get('rungs'):
        raise ValueError(
            '--rungs needs a budget: without one there are two objectives, accuracy and cost, and which candidates to '
            'stop early cannot be told by either alone. Leave out --rungs, or --pareto.'
        )


def _milliseconds(text: str) -> str:
    """The budget of --budget-ms with its unit."""
    try:
        value = float(text.strip().removesuffix('ms'))
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(
            f'--budget-ms {text}: give milliseconds above 0, such as --budget-ms 30. A fraction of the dense latency '
            f'is written --budget 0.6.'
        )
    return f'{value:.12g}ms'


def _macs(text: str) -> str | float:
    """The budget of --budget-macs."""
    try:
        Budget.parse(text, 'MACs')
    except ValueError as error:
        raise ValueError(f'--budget-macs {text}: {error}') from error
    return _number(text)


def _number(text: str) -> str | float:
    """A fraction as a number, anything else as it is."""
    try:
        return float(text)
    except ValueError:
        return text


def _rung(text: str) -> int | float:
    """A number of images, or a fraction of them."""
    try:
        return int(text) if text.strip().isdigit() else float(text)
    except ValueError:
        message = f'{text!r} is neither a fraction of the search images, such as 0.25, nor a number of them'
        raise argparse.ArgumentTypeError(message) from None


def words_of(options: 'SearchOptions') -> list[str]:
    """The command line that leads to options, as far as they are not the default ones."""
    if options.budget is None:
        words = ['--pareto']
    else:
        value = options.budget.value
        amount = f'{value * 1e3:.12g}ms' if options.budget_metric == 'latency' else f'{value / 1e9:.12g}G'
        words = ['--budget', f'{value:.12g}' if options.budget.relative else amount]
    defaults = type(options)(budget=None)
    for name in _PASSED:
        value = getattr(options, name)
        if value is None or value == getattr(defaults, name):
            continue
        if name == 'higher_is_better':
            words.append('--higher-is-better' if value else '--lower-is-better')
            continue
        words.append(f'--{name.replace("_", "-")}')
        if value is not True:
            words += map(str, value if isinstance(value, Sequence) and not isinstance(value, str) else [value])
    return words
