"""Imports point down only, and the core needs no mm package beyond mmengine and ``mmcv.cnn``."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'sparsevit_mm'

# Lower layers first; a module may import from its own layer and from those before it.
LAYERS = [
    {'version', 'registry', 'sparsity', 'budget', 'compat', 'restricted_pickle', 'extras', 'files'}
    | {'config', 'distributed', 'pipelines', 'precision', 'processes'},
    {'ops'},
    {'selectors'},
    {'models'},
    {'apis', 'deploy', 'graphs', 'predictions'},
    {'cost'},
    {'datasets', 'evaluation', 'visualization', 'search'},
    {'engine'},
    {'runs'},
    {'cli', 'demo', 'experiments', 'quickstart', '__init__'},
]


def _imports(path: Path) -> set[str]:
    """Parts of the package that a file imports at import time or inside functions."""
    found = set()
    depth = path.relative_to(PACKAGE).parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = list(depth[: len(depth) - node.level])
            parts = base + (node.module.split('.') if node.module else [])
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or '').startswith('sparsevit_mm.'):
            found.add(node.module.split('.')[1])
    return found


def _layer(part: str) -> int:
    for i, layer in enumerate(LAYERS):
        if part in layer:
            return i
    raise AssertionError(f'{part} is in no layer: add it to LAYERS')


FILES = [path for path in PACKAGE.rglob('*.py') if '.mim' not in path.parts]


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    if own == '__init__':
        return
    for part in _imports(path) - {own}:
        assert _layer(part) <= _layer(own), f'{own} must not import {part}'


CORE = ['ops', 'selectors', 'models', 'deploy', 'cost', 'engine', 'search', 'datasets', 'evaluation']


# Each is imported first of all, in a process that is forked once what they share is there.
IMPORT_EACH = """
import importlib, os, sys
for name in ('mmdet', 'mmseg', 'mmdet3d', 'mmpretrain', 'mmcv.ops'):
    sys.modules[name] = None
import mmcv.cnn, mmengine.runner, torch
failed = 0
for part in sys.argv[1:]:
    child = os.fork()
    if not child:
        importlib.import_module(f'sparsevit_mm.{part}')
        os._exit(0)
    failed |= os.waitpid(child, 0)[1]
    if failed:
        sys.exit(f'sparsevit_mm.{part} cannot be imported')
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='the system has no fork')
def test_core_imports_without_task_packages():
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', IMPORT_EACH, *CORE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
