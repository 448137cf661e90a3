import logging
from types import SimpleNamespace

import pytest
import torch

from sparsevit_mm.cost import count_macs
from sparsevit_mm.engine.hooks import SparsityLogHook, sparsity_log_hook
from sparsevit_mm.models import SparseSwin


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said = []
    monkeypatch.setattr(sparsity_log_hook, 'print_log', lambda text, logger, level=logging.INFO: said.append(text))
    return said


def test_sites_and_macs_are_logged(lines: list[str]) -> None:
    model = torch.nn.Module()
    model.backbone = SparseSwin(
        embed_dims=8, depths=(2, 2), num_heads=(1, 2), strides=(4, 2), out_indices=(1,), window_size=2,
        sparsity=(0.5, 0.25),
    )  # fmt: skip
    SparsityLogHook().before_run(SimpleNamespace(model=model))
    assert lines == ['Sparsity of SparseSwin: stage1.pair1 0.5, stage2.pair1 0.25.']
    SparsityLogHook(shape=[64, 64]).before_run(SimpleNamespace(model=model))
    assert model.backbone.sparsity == (0.5, 0.25)
    sparse = count_macs(model.backbone, (64, 64))
    model.backbone.sparsity = 0
    share = sparse / count_macs(model.backbone, (64, 64))
    assert lines[1].startswith(lines[0]) and lines[1].endswith(f'at 64x64, {share:.1%} of dense.')


def test_mistakes() -> None:
    for shape in ((800,), (800, 0), (800, 1344.0)):
        with pytest.raises(ValueError, match='shape must be height and width'):
            SparsityLogHook(shape)
    with pytest.raises(ValueError, match='no sparse backbone'):
        SparsityLogHook().before_run(SimpleNamespace(model=torch.nn.Linear(1, 1)))
