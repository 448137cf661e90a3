"""The config of a run: a file of its own that inherits a config of the project and says what differs."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..config import load_config
from ..search.best_config import write_inheriting_config

__all__ = ['ConfigBook']


class ConfigBook:
    """Reads each config of the project once.

    Args:
        folder: With the configs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, Config] = {}

    def read(self, name: str) -> Config:
        """A config by its path below the folder; a copy.

        Raises:
            ValueError: If it cannot be read.
        """
        if name not in self._read:
            self._read[name] = load_config(self.folder / name)
        return copy.deepcopy(self._read[name])

    def content(self, name: str) -> dict[str, Any]:
        """What it says, as plain values."""
        return self.read(name).to_dict()

    def changed(self, name: str, overrides: Mapping[str, Any], seed: int | None) -> Config:
        """A config with overrides.

        Args:
            name: Its path below the folder.
            overrides: Dotted keys and values; a number in a key is a place in a list.
            seed: Of the run, None to leave it to the config.

        Raises:
            ValueError: If it cannot be read, or an override does not fit.
        """
        cfg = self.read(name)
        try:
            cfg.merge_from_dict(copy.deepcopy(dict(overrides)))
        except (AssertionError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f'overrides {dict(overrides)} do not fit config {name}: {error}') from error
        if seed is not None:
            cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': seed}
        return cfg

    def write(self, name: str, cfg: Config, path: Path, header: str) -> None:
        """Write a changed config as a file that inherits the one it came from.

        Args:
            name: The one it came from.
            cfg: See :meth:`changed`.
            path: The file.
            header: Its docstring.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        write_inheriting_config(cfg, self.folder / name, path, header, loaded=self.read(name))
