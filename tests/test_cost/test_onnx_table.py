"""Latency tables of the exported model."""

import pytest
import torch

from sparsevit_mm.cost import LatencyTable, count_macs
from sparsevit_mm.cost.onnx_table import _TimedGraphs, measure_onnx_table, onnx_environment
from sparsevit_mm.cost.table_device import conditions_here
from sparsevit_mm.cost.whole_latencies import determining_settings
from sparsevit_mm.deploy.onnx_run import OnnxSession
from sparsevit_mm.models import SparseSwin

pytest.importorskip('onnxscript')
pytest.importorskip('onnxruntime')

CHOICES = (0.0, 0.8)


@pytest.fixture
def backbone() -> SparseSwin:
    swin = dict(embed_dims=16, depths=(1, 1), num_heads=(1, 2), strides=(4, 2), out_indices=(0, 1))
    return SparseSwin(**swin, sparsity=(0.5, 0))


@pytest.fixture
def made_up_seconds(monkeypatch):
    """Graphs run, but the clock of this machine is left out: a pass takes as long as the backbone has MACs."""
    run = _TimedGraphs.__call__

    def timed(self, setting):
        assert run(self, setting) > 0
        self._backbone.sparsity = setting
        return count_macs(self._backbone, (64, 64)) * 1e-9

    monkeypatch.setattr(_TimedGraphs, '__call__', timed)


def test_a_table_of_exported_graphs(backbone, made_up_seconds, tmp_path):
    done = []
    table = measure_onnx_table(
        backbone, (64, 64), choices=CHOICES, rounds=2, threads=1, progress=lambda *counts: done.append(counts)
    )
    assert backbone.sparsity == (0.5, 0) and backbone.training
    assert table.environment.device == 'onnxruntime' and 'ONNX Runtime' in table.environment.device_name
    for setting in ((0, 0), (0.8, 0), (0, 0.8), (0.8, 0.8)):
        backbone.sparsity = setting
        assert table.predict(setting) == pytest.approx(count_macs(backbone, (64, 64)) * 1e-9)
    assert done[-1][0] == done[-1][1]
    table.save(tmp_path / 'table.json')
    again = LatencyTable.load(tmp_path / 'table.json')
    assert again.predict((0.8, 0)) == table.predict((0.8, 0))
    # It is a table of this machine, for as many threads.
    again.require(backbone, **conditions_here(again, threads=1))
    with pytest.raises(ValueError, match='threads: 1 in the table, 2 wanted'):
        again.require(backbone, **conditions_here(again, threads=2))


def test_graphs_are_loaded_anew_where_there_is_no_room(backbone, made_up_seconds, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        OnnxSession, '__init__', lambda self, *a, own=OnnxSession.__init__: loaded.append(own(self, *a))
    )
    rounds, settings = 2, len(determining_settings(backbone.sparsity_layout, CHOICES))
    measure_onnx_table(backbone, (64, 64), choices=CHOICES, rounds=rounds, threads=1)
    assert len(loaded) == settings
    monkeypatch.setattr('sparsevit_mm.cost.onnx_table.LOADED_BYTES', 0)
    loaded.clear()
    measure_onnx_table(backbone, (64, 64), choices=CHOICES, rounds=rounds, threads=1)
    assert len(loaded) == rounds * settings


def test_conditions_of_this_machine():
    environment = onnx_environment((32, 48), batch=2)
    assert environment.threads == torch.get_num_threads() and environment.shape == (32, 48)
    assert environment.dtype == 'float32' and environment.torch == torch.__version__


def test_adaptive_counts_are_refused():
    selector = dict(type='sparsevit_mm.MultiHeadSelector', draw='batch')
    swin = dict(embed_dims=16, depths=(2,), num_heads=(1,), strides=(4,), out_indices=(0,))
    with pytest.raises(ValueError, match="an exported graph has fixed counts: set counts='fixed'"):
        measure_onnx_table(SparseSwin(**swin, counts='adaptive', selector=selector), (64, 64))
