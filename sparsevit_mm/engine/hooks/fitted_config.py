"""The config of a sparsity that a training comes to."""

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.runner import Runner

from ...registry import type_name
from ...search.best_config import found_config, user_config, write_inheriting_config

__all__ = ['write_fitted_config']


def write_fitted_config(
    runner: Runner,
    sparsity: Sequence[float],
    header: str,
    name: str = 'fitted_config.py',
    without: Sequence[str] = (),
) -> Path | None:
    """Writes the run's own config with another sparsity into its work dir, ready to test and to train on.

    It starts from the last checkpoint of the run, where there is one, and fits nothing anew: hooks that would are left
    out or lose their budget. Only the first process writes; the others return its path too.

    Args:
        runner: The runner.
        sparsity: One float a site.
        header: What the docstring of the file begins with: where the sparsity comes from.
        name: Name of the file.
        without: Names of the hooks that brought the sparsity about, which the config leaves out.

    Returns:
        The file. None where the runner has no config to inherit from, or one whose backbone cannot be told: a
        training does not fail for that.
    """
    path, checkpoint = Path(runner.work_dir, name), runner.message_hub.get_info('last_ckpt')
    try:
        cfg = _settled(found_config(user_config(runner.cfg), sparsity, checkpoint), without)
    except ValueError as error:
        print_log(f'{name} cannot be written: {error}', 'current', logging.WARNING)
        return None
    if is_main_process():
        header = f'{header.strip()}\n\nTest: python tools/test.py {path} {checkpoint or "CHECKPOINT"}'
        write_inheriting_config(cfg, runner.cfg.filename, path, header)
    print_log(f'{path} is the config with this sparsity.', 'current')
    return path


def _settled(cfg: Config, names: Sequence[str]) -> Config:
    from .budget_target import BudgetTarget

    budget_options = ('target', *(option.name for option in fields(BudgetTarget)))
    hooks = cfg.get('custom_hooks') or []
    kept = [hook for hook in hooks if type_name(hook) not in names]
    if len(kept) != len(hooks):
        cfg.custom_hooks = kept
    for hook in cfg.get('custom_hooks') or []:
        if type_name(hook) == 'KeepRatioLossHook':
            for option in budget_options:
                hook.pop(option, None)
    return cfg
