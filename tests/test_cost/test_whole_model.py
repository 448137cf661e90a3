import copy
from functools import partial

import pytest
import torch
from torch import nn

from sparsevit_mm.cost.benchmark import run_benchmark
from sparsevit_mm.cost.benchmark_case import Plan, cases_of, prepare
from sparsevit_mm.cost.subjects import Subject, load_subject
from sparsevit_mm.cost.whole_model import running_as, whole_model_call, whole_model_scope
from sparsevit_mm.models import SparseSwin

SWIN = dict(embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
CHANNELS = [16, 32, 64, 128]
MASK_RCNN = 'mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py'
UPERNET = 'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
MASK2FORMER = 'mmseg::mask2former/mask2former_swin-t_8xb2-90k_cityscapes-512x1024.py'

OPTIONS = {
    MASK_RCNN: {
        'neck.in_channels': CHANNELS,
        'test_cfg.rpn.max_per_img': 5,
        'roi_head.bbox_head.fc_out_channels': 16,
    },
    UPERNET: {
        'decode_head.in_channels': CHANNELS,
        'decode_head.channels': 16,
        'auxiliary_head': None,
    },
    MASK2FORMER: {
        'decode_head.in_channels': CHANNELS,
        'decode_head.num_queries': 5,
        'decode_head.transformer_decoder.num_layers': 1,
        'decode_head.num_transformer_feat_level': 3,
    },
}


def _options(config: str) -> dict:
    backbone = {f'model.backbone.{key}': value for key, value in SWIN.items()}
    return backbone | {f'model.{key}': copy.deepcopy(value) for key, value in OPTIONS[config].items()}


@pytest.mark.parametrize(
    ('config', 'package', 'scope'),
    [(MASK_RCNN, 'mmdet', 'network of the detector'), (UPERNET, 'mmseg', 'prediction of the segmentor')],
)
def test_whole_models_and_their_backbones(config, package, scope):
    pytest.importorskip(package)
    pytest.importorskip('mmcv.ops', exc_type=ImportError)
    subject = load_subject(config, [0, 0.5], whole_model=True, cfg_options=_options(config))
    assert subject.whole_model and subject.stock_model.backbone is subject.stock
    ours, stock = subject.model.state_dict(), subject.stock_model.state_dict()
    assert all(torch.equal(ours[key], stock[key]) for key in stock)
    report = run_benchmark([subject], (64, 96), rounds=1, min_round_time=0.0, warmup=0)
    assert scope in report.scope and report.whole_model
    assert [row.sparsity and row.sparsity[0] for row in report.rows] == [None, 0, 0.5]
    assert report.rows[0].macs == report.rows[1].macs > report.rows[2].macs
    assert all(report.backbone_share(row) > 0 for row in report.rows)


def test_mask2former():
    pytest.importorskip('mmseg')
    pytest.importorskip('mmcv.ops', exc_type=ImportError)
    subject = load_subject(MASK2FORMER, [0.5], stock=False, whole_model=True, cfg_options=_options(MASK2FORMER))
    (result,) = whole_model_call(subject.model.eval(), torch.randn(1, 3, 64, 64), 'float32')()
    assert result.pred_sem_seg.data.shape == (1, 64, 64)


def _detector(backbone: nn.Module) -> nn.Module:
    mmdet3d = pytest.importorskip('mmdet3d.models')

    class Head(nn.Module):
        def forward(self, features):
            return [feature.mean() for feature in features]

    class Detector(mmdet3d.SingleStageMono3DDetector):
        def __init__(self, backbone):
            nn.Module.__init__(self)
            self.backbone, self.bbox_head = backbone, Head()

        with_neck = False

    return Detector(backbone)


def test_monocular_3d_detector():
    model = _detector(nn.Conv2d(3, 4, 3))
    assert 'network of the 3D detector' in whole_model_scope(model)
    assert len(whole_model_call(model, torch.randn(2, 3, 8, 8), 'float32')()) == 2


def test_a_child_runs_in_another_form_for_a_while():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    model.backbone = nn.Flatten(0)
    keys, child = list(model.state_dict()), model.backbone
    with pytest.raises(KeyError), running_as(model, child, len):
        assert model.backbone is len and list(model.state_dict()) == keys
        raise KeyError
    assert model.backbone is child and 'backbone' not in vars(model)


def test_the_backbone_of_a_whole_model_is_compiled(monkeypatch):
    ran = []

    def backend(graph, inputs):
        return lambda *args: ran.append('graph') or graph.forward(*args)

    torch._dynamo.reset()
    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend=backend))
    backbone = SparseSwin(embed_dims=16, num_heads=(1, 2), depths=(2, 2), strides=(4, 2), out_indices=(0, 1))
    model = _detector(backbone).eval()
    head = model.bbox_head.forward  # which the detector calls by this name
    model.bbox_head.forward = lambda features: ran.append('head') or head(features)
    subject = Subject('a', model, backbone, ((0.5, 0.5),))
    plan = Plan((64, 64), 1, 'float32', torch.device('cpu'), whole_model=True)
    images = [torch.randn(1, 3, 64, 64)]
    eager, compiled = (prepare(case, plan, images) for case in cases_of([subject], ('eager', 'compiled')))
    assert compiled.failure is None and compiled.compile_seconds > 0 and compiled.macs == eager.macs
    for trial, whole, alone in ((eager, ['head'], []), (compiled, ['graph', 'head'], ['graph'])):
        ran.clear()
        trial.calls['']()
        assert ran == whole
        ran.clear()
        trial.calls['backbone']()
        assert ran == alone
    torch.testing.assert_close(compiled.calls[''](), eager.calls['']())
    report = run_benchmark([subject], (64, 64), modes=('compiled',), rounds=1, min_round_time=0.0, warmup=0)
    assert report.whole_model and 'torch.compile of the backbone' in ' '.join(report.notes())


def test_other_models_are_refused():
    with pytest.raises(ValueError, match=r'Conv2d is no detector or segmentor.*leave out --whole-model'):
        whole_model_call(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8), 'float32')
