"""The configs that a search leaves: the best setting, and without a budget every setting of the front."""

import os
import re
import shlex
from pathlib import Path

from mmengine.config import Config

from .best_config import found_config, write_inheriting_config
from .budget import format_cost
from .results import Evaluation, Outcome

__all__ = ['BEST', 'FRONT', 'config_commands', 'front_config_name', 'write_configs']

BEST, FRONT = 'best_config.py', 'front'
_MARK = 'Found by tools/search_sparsity.py'  # opens the files that may be removed when they are out of date


def write_configs(
    outcome: Outcome,
    folder: str | os.PathLike,
    cfg: Config,
    base: str | os.PathLike | None,
    checkpoint: str | os.PathLike | None = None,
    cost_name: str = 'cost of the backbone',
) -> list[Path]:
    """Writes ``best_config.py``, and without a budget ``front/`` with a config for every setting of the front.

    They inherit the user's config, and train and test as they are. In ``front/`` names sort by cost; what an earlier
    call wrote there and is on the front no longer is removed, and other files are left alone.

    Args:
        outcome: The study as it stands.
        folder: Where the files go.
        cfg: The user's config, without what a tool set for a run.
        base: The config file to inherit, or ``package::...``; None for files that stand alone.
        checkpoint: The file of the weights that were searched on.
        cost_name: What is counted, and of what.

    Returns:
        The files, the best one first; none before a setting within the budget is evaluated.

    Raises:
        ValueError: If the base cannot be read, or the config has no sparse backbone.
    """
    from ..config import load_config

    if outcome.best is None:
        return []
    folder = Path(folder)
    loaded = None if base is None else load_config(base)
    wanted = {folder / BEST: outcome.best}
    if not outcome.has_budget:
        wanted |= {folder / FRONT / front_config_name(outcome, e): e for e in outcome.front}
    for path, e in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        header = _header(outcome, e, path, checkpoint, cost_name)
        write_inheriting_config(found_config(cfg, e.sparsity, checkpoint), base, path, header, loaded=loaded)
    _remove_stale(folder / FRONT, set(wanted))
    return list(wanted)


def front_config_name(outcome: Outcome, e: Evaluation) -> str:
    """The file of a setting of the front, which says cost as a fraction of dense, accuracy and trial.

    The first of them is written so that names sort by it. There is no dot and no hyphen in the name, so that Python
    can import the module as well.
    """
    accuracy = f'{e.accuracy:.2f}' if abs(e.accuracy) >= 10 else f'{e.accuracy:.4f}'
    text = f'cost_{outcome.share(e.cost):.4f}_{outcome.metric_name}_{accuracy}_trial_{e.number}'
    return re.sub(r'[^0-9A-Za-z]+', '_', text.replace('-', 'minus')) + '.py'


def config_commands(path: str | os.PathLike, checkpoint: str | os.PathLike | None) -> tuple[tuple[str, str], ...]:
    """How to test a config with the weights that were searched on, and how to train on from them."""
    weights = 'CHECKPOINT' if checkpoint is None else str(checkpoint)
    finetuned = Path(path).with_name(f'{Path(path).stem}_finetuned')  # every best_config.py has the same name
    return (
        ('Test', shlex.join(['python', 'tools/test.py', str(path), weights])),
        ('Finetune', shlex.join(['python', 'tools/train.py', str(path), '--work-dir', str(finetuned)])),
    )


def _header(outcome: Outcome, e: Evaluation, path: Path, checkpoint: str | os.PathLike | None, cost_name: str) -> str:
    dense = f', dense {outcome.dense.accuracy:.4g}' if outcome.dense else ''
    lines = [f'{_MARK}: {outcome.metric or "accuracy"} {e.accuracy:.4g} on the search images{dense}.', '']
    if path.name == BEST and not outcome.has_budget:
        lines += ['There was no budget: this is the most accurate setting, and front/ has the cheaper ones.', '']
    cost = f'{format_cost(e.cost, outcome.unit)}, {outcome.share(e.cost):.3f} of dense'
    lines += [f'{cost_name}: {cost}.', f'Sites: {", ".join(outcome.sites)}.', '']
    width = max(len(purpose) for purpose, _ in config_commands(path, checkpoint)) + 1
    lines += [f'{purpose + ":":{width}} {command}' for purpose, command in config_commands(path, checkpoint)]
    return '\n'.join(lines)


def _remove_stale(folder: Path, wanted: set[Path]) -> None:
    """Removes what an earlier call wrote into the folder of the front and this one did not."""
    for path in folder.glob('cost_*_trial_*.py'):
        if path not in wanted and path.read_text(encoding='utf-8', errors='replace').startswith(f'"""{_MARK}'):
            path.unlink(missing_ok=True)
