"""Tools and other scripts as modules, to be called without a process of their own."""

import importlib.util
from pathlib import Path

__all__ = ['ROOT', 'load_script', 'load_tool']

ROOT = Path(__file__).parents[1]


def load_script(path):
    """A new module of a Python file."""
    spec = importlib.util.spec_from_file_location(f'script_{Path(path).stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_tool(name):
    """One of ``tools/``."""
    return load_script(ROOT / 'tools' / f'{name}.py')
