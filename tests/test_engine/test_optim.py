"""The bfloat16 optimizer wrapper: on the CPU, beside mmcv's operators, and going on from a float32 run."""

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper

from sparsevit_mm import precision
from sparsevit_mm.compat import run_mmcv_ops_in_float32
from sparsevit_mm.engine.optim import BFloat16OptimWrapper
from sparsevit_mm.precision import fit_precision, use_amp
from sparsevit_mm.registry import OPTIM_WRAPPERS


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 1)

    def forward(self, inputs, mode='tensor'):
        out = self.linear(inputs)
        self.seen = out.dtype
        return dict(loss=out.float().square().mean()) if mode == 'loss' else out


def make(model, cls=BFloat16OptimWrapper, **options):
    return cls(optimizer=torch.optim.AdamW(model.parameters(), lr=0.1), **options)


def test_forward_is_in_bfloat16_and_parameters_stay_float32():
    torch.manual_seed(0)
    model = Toy()
    wrapper = make(model, clip_grad=dict(max_norm=1.0), emulate=True)
    data = dict(inputs=torch.randn(8, 4))
    before = model.linear.weight.detach().clone()
    losses = [model.train_step(data, wrapper)['loss'].item() for _ in range(20)]
    assert model.seen is torch.bfloat16
    assert model.linear.weight.dtype is torch.float32 and not torch.equal(model.linear.weight, before)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize('emulate', [False, True])
@pytest.mark.parametrize('able', [False, True])
def test_a_processor_without_bfloat16_trains_in_float32_and_says_so_once(able, emulate, monkeypatch, capsys):
    monkeypatch.setattr(precision, 'cpu_has_bfloat16', lambda: able)
    model = Toy()
    wrapper = make(model, emulate=emulate)
    for _ in range(2):
        model.train_step(dict(inputs=torch.ones(1, 4)), wrapper)
    slow = not able and not emulate
    assert model.seen is (torch.float32 if slow else torch.bfloat16)
    assert capsys.readouterr().out.count('training in float32') == slow
    if not torch.cuda.is_available():
        asked = config('sparsevit_mm.BFloat16OptimWrapper', emulate=emulate)
        assert precision.training_dtype(asked) == str(model.seen).removeprefix('torch.')


def test_what_other_wrappers_train_in():
    assert precision.training_dtype(config('OptimWrapper')) == 'float32'
    assert precision.training_dtype(config('AmpOptimWrapper')) == 'float16'
    assert precision.training_dtype(config('AmpOptimWrapper', dtype='bfloat16')) == 'bfloat16'


def test_registered_under_its_scope():
    built = OPTIM_WRAPPERS.build(
        dict(type='sparsevit_mm.BFloat16OptimWrapper', optimizer=torch.optim.SGD(Toy().parameters(), lr=0.1))
    )
    assert isinstance(built, BFloat16OptimWrapper)


def test_accumulates_gradients():
    model = Toy()
    wrapper = make(model, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    before = model.linear.weight.detach().clone()
    model.train_step(dict(inputs=torch.ones(1, 4)), wrapper)
    assert torch.equal(model.linear.weight, before)
    model.train_step(dict(inputs=torch.ones(1, 4)), wrapper)
    assert not torch.equal(model.linear.weight, before)


def test_state_goes_to_and_from_the_plain_wrapper():
    model = Toy()
    wrapper = make(model)
    model.train_step(dict(inputs=torch.ones(1, 4)), wrapper)
    plain = make(model, OptimWrapper)
    plain.load_state_dict(wrapper.state_dict())
    make(model).load_state_dict(plain.state_dict())
    assert next(iter(plain.optimizer.state.values()))['step'] == 1


@pytest.mark.parametrize('option', [dict(loss_scale='dynamic'), dict(dtype='float16')])
def test_options_of_the_float16_wrapper_are_named(option):
    with pytest.raises(ValueError, match=f'optim_wrapper.{next(iter(option))}'):
        make(Toy(), **option)


OPS = {
    'RoIAlign': lambda ops, x, boxes: ops.RoIAlign(2)(x, boxes),
    'ModulatedDeformConv2d': lambda ops, x, boxes: ops.ModulatedDeformConv2dPack(4, 2, 3)(x),
    'DeformConv2d': lambda ops, x, boxes: ops.DeformConv2dPack(4, 2, 3)(x),
    'nms': lambda ops, x, boxes: ops.nms(boxes[:, 1:].to(x.dtype), x.flatten()[: len(boxes)], 0.5)[0],
}


@pytest.mark.parametrize('name', sorted(OPS))
def test_mmcv_operators_under_autocast(name):
    """Their kernels refuse bfloat16: they compute in float32, and what comes back has the type of what went in."""
    ops = pytest.importorskip('mmcv.ops')
    run_mmcv_ops_in_float32()
    x = torch.rand(1, 4, 8, 8).bfloat16().requires_grad_()
    boxes = torch.tensor([[0.0, 1, 1, 6, 6], [0, 1, 1, 3, 3]])
    torch.manual_seed(0)
    with torch.autocast('cpu', torch.bfloat16):
        out = OPS[name](ops, x, boxes)
    assert out.dtype is torch.bfloat16
    torch.manual_seed(0)
    torch.testing.assert_close(out.float(), OPS[name](ops, x.float(), boxes), rtol=2e-2, atol=2e-2)
    if out.requires_grad:
        out.float().sum().backward()
        assert x.grad.dtype is torch.bfloat16 and x.grad.abs().sum() > 0


@pytest.mark.slow
def test_a_two_stage_detector_takes_a_step():
    """Proposals, RoI features, boxes and masks of Mask R-CNN under bfloat16, as small as it gets."""
    pytest.importorskip('mmdet')
    from mmdet.testing import demo_mm_inputs

    from sparsevit_mm.apis import _build, init_scope, load_config

    cfg = load_config('mmdet::_base_/models/mask-rcnn_r50_fpn.py')
    cfg.default_scope = 'mmdet'
    cfg.model.backbone = dict(
        type='SwinTransformer', embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_size=4
    )
    cfg.model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    cfg.model.rpn_head.update(in_channels=16, feat_channels=16)
    for part in ('bbox_roi_extractor', 'mask_roi_extractor'):
        cfg.model.roi_head[part].out_channels = 16
    cfg.model.roi_head.bbox_head.update(in_channels=16, fc_out_channels=16, num_classes=2)
    cfg.model.roi_head.mask_head.update(in_channels=16, conv_out_channels=16, num_classes=2)
    init_scope(cfg)
    torch.manual_seed(0)
    model = _build(cfg.model).train()
    data = demo_mm_inputs(1, [[3, 64, 64]], num_items=[3], num_classes=2, with_mask=True)
    losses = model.train_step(data, make(model))
    assert {'loss_rpn_cls', 'loss_bbox', 'loss_mask'} <= set(losses)
    assert all(torch.isfinite(value).all() for value in losses.values())


def config(kind, **options):
    return Config(dict(optim_wrapper=dict(type=kind, optimizer=dict(type='AdamW', lr=1e-4), **options)))


@pytest.mark.skipif(torch.cuda.is_available(), reason='for machines without a GPU')
def test_amp_on_a_machine_without_gpu_is_bfloat16():
    cfg = config('OptimWrapper')
    use_amp(cfg)
    fit_precision(cfg)
    assert cfg.optim_wrapper.type == 'sparsevit_mm.BFloat16OptimWrapper'
    assert cfg.custom_imports.imports == ['sparsevit_mm'] and 'loss_scale' not in cfg.optim_wrapper

    cfg = config('AmpOptimWrapper', dtype='float16', loss_scale='dynamic')
    fit_precision(cfg)
    assert cfg.optim_wrapper.type == 'sparsevit_mm.BFloat16OptimWrapper' and set(cfg.optim_wrapper) == {
        'type',
        'optimizer',
    }


def test_amp_leaves_other_wrappers_alone():
    plain = config('OptimWrapper')
    fit_precision(plain)
    assert plain.optim_wrapper.type == 'OptimWrapper'
    with pytest.raises(ValueError, match=r'--amp.*MyWrapper'):
        use_amp(config('MyWrapper'))
