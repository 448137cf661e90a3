"""The notebook runs from its first cell to its last one, and is stored small."""

import json
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / 'demo' / 'sparsify_your_model.ipynb'


def _cells(kind: str) -> list[str]:
    return [''.join(c['source']) for c in json.loads(NOTEBOOK.read_text())['cells'] if c['cell_type'] == kind]


@pytest.mark.slow
def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a few steps of everything, in a kernel of its own."""
    for package in ('mmseg', 'optuna', 'skimage', 'sklearn', 'ipykernel'):
        pytest.importorskip(package)
    nbformat, nbclient = pytest.importorskip('nbformat'), pytest.importorskip('nbclient')
    monkeypatch.setenv('SPARSEVIT_MM_NOTEBOOK', 'smoke')
    monkeypatch.setenv('SPARSEVIT_MM_NOTEBOOK_DIR', str(tmp_path / 'work'))
    monkeypatch.setenv('OMP_NUM_THREADS', os.environ.get('OMP_NUM_THREADS', '1'))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name='python3', resources=dict(metadata=dict(path=str(NOTEBOOK.parent)))
    )
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == 'code' for output in cell.outputs]
    text = ' '.join(output.get('text', '') or str(output.get('data', '')) for output in outputs)
    for expected in ('SparseSwin', 'stage1.pair1', 'speed-up', '4 steps in', 'settings evaluated', '| found |', 'mIoU'):
        assert expected in text
    assert sum('image/jpeg' in output.get('data', {}) for output in outputs) == 4
    assert (tmp_path / 'work' / 'search' / 'best_config.py').is_file()
    assert not [output for output in outputs if output.output_type == 'error']


def test_notebook_is_small_and_says_nothing_of_a_machine() -> None:
    text = NOTEBOOK.read_text()
    assert len(text) < 500_000
    assert not re.search(r'/(home|root|tmp|work|Users)/', re.sub(r'"image/(png|jpeg)": "[^"]*"', '', text))


def test_links_of_the_notebook_lead_somewhere() -> None:
    targets = [target for cell in _cells('markdown') for target in re.findall(r'\]\(([^)#]+)\)', cell)]
    assert targets
    for target in targets:
        assert (NOTEBOOK.parent / target).exists(), target


def test_commands_of_the_notebook_are_there() -> None:
    named = {word for cell in _cells('markdown') for word in re.findall(r'(?:tools|configs)/[\w./-]*\w', cell)}
    assert named
    for word in named:
        assert (ROOT / word).exists(), word
