"""The config of a found setting: the user's own config with the sparsity in it, ready to train and to test."""

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

__all__ = ['found_config', 'user_config', 'write_inheriting_config']

# Set by tools for a run, no part of what a config says.
_OF_THE_RUN = ('work_dir', 'launcher', 'resume', 'load_from', 'test_cfg')


def found_config(cfg: Config, sparsity: Sequence[float], checkpoint: str | os.PathLike | None = None) -> Config:
    """What a user trains and tests after a search.

    Beside the sparsity it differs from what was searched in what would be wrong afterwards: a search loop in the
    place of the test loop, a hook that goes on drawing sparsities, and pretrained weights of the backbone, which
    the checkpoint supersedes.

    Args:
        cfg: The user's config, stock or ours.
        sparsity: One float a site.
        checkpoint: The checkpoint that was searched; training starts from it.
    """
    from ..config import drop_pretrained, sparsify_config
    from ..registry import type_name

    cfg = sparsify_config(cfg, tuple(sparsity))
    if type_name(cfg.get('test_cfg')) == 'SparsitySearchLoop':
        cfg.test_cfg = dict(type='TestLoop')
    hooks = cfg.get('custom_hooks') or []
    fixed = [hook for hook in hooks if type_name(hook) != 'SparsityAdaptationHook']
    if len(fixed) != len(hooks):
        cfg.custom_hooks = fixed
    if checkpoint is not None:
        drop_pretrained(cfg)
        cfg.load_from = str(checkpoint) if '://' in str(checkpoint) else str(Path(checkpoint).resolve())
        if cfg.get('resume'):
            cfg.resume = False
    return cfg


def user_config(cfg: Config) -> Config:
    """The config of a run as its file has it, without what a tool set for this run.

    Args:
        cfg: The config of a runner; one that comes from no file is returned as it is.
    """
    from ..config import load_config

    if not cfg.filename:
        return cfg
    file = load_config(cfg.filename)
    cfg = Config(cfg.to_dict(), filename=cfg.filename)
    for key in _OF_THE_RUN:
        if key in file:
            cfg[key] = file[key]
        else:
            cfg.pop(key, None)
    return cfg


def write_inheriting_config(
    cfg: Config,
    base: str | os.PathLike | None,
    path: str | os.PathLike,
    header: str,
    *,
    loaded: Config | None = None,
) -> None:
    """Writes a config file that inherits another one and says only what differs.

    A base in mmengine's pure Python style cannot be inherited by a text config; then the whole config is written.

    Args:
        cfg: What the file is to give when it is loaded.
        base: The config file that it inherits, or ``package::...``; None for a file that stands alone.
        path: Where it is written.
        header: Docstring of the file.
        loaded: What the base gives, where that is known: writing several files then takes less time.
    """
    from ..config import load_config

    path, wanted = Path(path), cfg.to_dict()
    head = f'"""{_in_docstring(header.strip())}\n"""\n\n'
    # mmengine takes a file's name for a module's
    unfinished = path.with_name(f'unfinished_{os.getpid()}_{path.name}')
    try:
        if base is not None:
            overrides = Config(_overrides((loaded or load_config(base)).to_dict(), wanted)).pretty_text
            text = f'{head}_base_ = [{_reference(base, path.parent)!r}]\n\n{overrides}'
            if path.is_file() and path.read_text(encoding='utf-8', errors='replace') == text:
                return  # as it was written, and checked, before
            unfinished.write_text(text, encoding='utf-8')
        if base is None or not _gives(unfinished, wanted):
            unfinished.write_text(head + cfg.pretty_text, encoding='utf-8')
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _in_docstring(text: str) -> str:
    """A text that Python reads back between triple quotes."""
    return text.replace('\\', '\\\\').replace('"', '\\"') if '\\' in text or '"' in text else text


def _gives(path: Path, wanted: dict) -> bool:
    from ..config import load_config

    try:
        return _unscoped(load_config(path).to_dict()) == _unscoped(wanted)
    except ValueError:
        return False


def _unscoped(value: Any) -> Any:
    """Without the ``_scope_`` that mmengine notes in what comes from another package's config."""
    if isinstance(value, Mapping):
        return {key: _unscoped(item) for key, item in value.items() if key != '_scope_'}
    return [_unscoped(item) for item in value] if isinstance(value, list | tuple) else value


def _overrides(base: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What must be written over a base so that inheritance gives what is wanted.

    mmengine merges dictionaries and replaces everything else; ``_delete_`` replaces a dictionary.
    """
    changed = {}
    for key, value in wanted.items():
        if key in base and base[key] == value and type(base[key]) is type(value):
            continue
        old = base.get(key)
        if not isinstance(value, Mapping) or not isinstance(old, Mapping):
            changed[key] = copy.deepcopy(value)
        elif set(old) <= set(value):
            changed[key] = _overrides(old, value)
        else:
            changed[key] = {'_delete_': True, **copy.deepcopy(dict(value))}
    return changed


def _reference(base: str | os.PathLike, folder: Path) -> str:
    """The base as a config in a folder names it: relative where both lie below the present directory."""
    if '::' in str(base):
        return str(base)
    target, folder, here = Path(base).resolve(), folder.resolve(), Path.cwd()
    together = target.is_relative_to(here) and folder.is_relative_to(here)
    return Path(os.path.relpath(target, folder) if together else target).as_posix()
