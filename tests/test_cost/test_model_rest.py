"""What a whole model takes beside its backbone."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from sparsevit_mm.cost import model_rest
from sparsevit_mm.cost.block_clock import BlockClock
from sparsevit_mm.cost.model_rest import ModelRest, measure_model_rest

SHAPE = (64, 96)


@pytest.fixture
def model() -> nn.Module:
    pytest.importorskip('mmseg')
    init_default_scope('mmseg')
    backbone = dict(
        type='sparsevit_mm.SparseSwin', embed_dims=16, depths=(2, 2), num_heads=(2, 4), strides=(4, 2),
        out_indices=(0, 1), window_size=4, sparsity=0.5,
    )  # fmt: skip
    head = dict(
        type='FCNHead', in_channels=32, in_index=1, channels=8, num_convs=1, concat_input=False, num_classes=3,
        norm_cfg=dict(type='BN'),
    )  # fmt: skip
    model = dict(type='EncoderDecoder', backbone=backbone, decode_head=head, test_cfg=dict(mode='whole'))
    return MODELS.build(Config(model))


def test_a_model_comes_back_as_it_was(model: nn.Module) -> None:
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ran, progress, threads = [], [], torch.get_num_threads()
    model.backbone.register_forward_hook(lambda backbone, *_: ran.append((backbone.sparsity, backbone.training)))
    rest = measure_model_rest(
        model, model.backbone, SHAPE, rounds=3, threads=1, progress=lambda *done: progress.append(done)
    )
    assert 0 <= rest.q1 <= rest.median <= rest.q3 and rest.rounds == 3 and 'segmentor' in rest.scope
    assert set(ran) == {((0.0, 0.0), False)} and len(ran) == 12, 'dense, in evaluation mode, each once untimed'
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert set(model.backbone.sparsity) == {0.5} and model.training and torch.get_num_threads() == threads
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert ModelRest(**json.loads(json.dumps(rest.to_dict()))) == rest


class Seconds:
    """The backbone takes 1 s and the whole model more, on a machine that becomes slower with every pass."""

    def __init__(self, model: nn.Module, more: float) -> None:
        self.more, self.passes, self.heads, self.order = more, 0, 0, []
        model.decode_head.conv_seg.register_forward_hook(lambda *_: setattr(self, 'heads', self.heads + 1))

    def __call__(self, clock: BlockClock, call: object) -> float:
        before = self.heads
        call()
        self.passes += 1
        self.order.append(self.heads > before)
        return 1.0 + 0.01 * self.passes + self.more * (self.heads > before)


@pytest.mark.parametrize(('more', 'wanted'), [(0.5, 0.5), (-0.5, 0.0)])
def test_it_is_the_difference_of_passes_side_by_side(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, more: float, wanted: float
) -> None:
    seconds = Seconds(model, more)
    monkeypatch.setattr(model_rest.BlockClock, 'time', lambda clock, call: seconds(clock, call))
    rest = measure_model_rest(model, model.backbone, SHAPE, rounds=6)
    assert rest.median == pytest.approx(wanted) and rest.q3 - rest.q1 <= 0.021
    assert seconds.order == [False, True, True, False] * 3, 'which one comes first alternates'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(shape=(0, 8)), 'shape must be two positive integers'),
        (dict(rounds=0), 'rounds must be a positive integer'),
        (dict(dtype='int8'), 'dtype must be one of'),
        (dict(device='tpu'), "device must be 'cpu'"),
        (dict(threads=0), 'threads must be a positive integer'),
    ],
)
def test_mistakes_are_said_before_anything_runs(model: nn.Module, options: dict, message: str) -> None:
    model.backbone.register_forward_hook(lambda *_: pytest.fail('ran'))
    with pytest.raises(ValueError, match=message):
        measure_model_rest(model, model.backbone, **dict(shape=SHAPE) | options)


def test_a_model_that_cannot_be_run_whole_is_said(model: nn.Module) -> None:
    alone = nn.Sequential(model.backbone)
    with pytest.raises(ValueError, match='Sequential is no detector or segmentor'):
        measure_model_rest(alone, model.backbone, SHAPE)
    model.decode_head.conv_seg = nn.Conv2d(5, 3, 1)
    with pytest.raises(
        ValueError, match=r'EncoderDecoder does not run whole at this shape, .* or time the backbone alone'
    ):
        measure_model_rest(model, model.backbone, SHAPE)
    assert set(model.backbone.sparsity) == {0.5}


@pytest.mark.cuda
def test_on_cuda_and_back(model: nn.Module) -> None:
    rest = measure_model_rest(model, model.backbone, SHAPE, device='cuda', rounds=2)
    assert rest.q3 > 0 and {parameter.device.type for parameter in model.parameters()} == {'cpu'}
