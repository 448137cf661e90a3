import copy

import pytest
import torch
from torch import nn

from sparsevit_mm.cost.benchmark import run_benchmark
from sparsevit_mm.cost.subjects import load_subject
from sparsevit_mm.cost.whole_model import whole_model_call, whole_model_scope

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


def test_monocular_3d_detector():
    mmdet3d = pytest.importorskip('mmdet3d.models')

    class Head(nn.Module):
        def forward(self, features):
            return [feature.mean() for feature in features]

    class Detector(mmdet3d.SingleStageMono3DDetector):
        def __init__(self, backbone):
            nn.Module.__init__(self)
            self.backbone, self.bbox_head = backbone, Head()

        with_neck = False

    model = Detector(nn.Conv2d(3, 4, 3))
    assert 'network of the 3D detector' in whole_model_scope(model)
    assert len(whole_model_call(model, torch.randn(2, 3, 8, 8), 'float32')()) == 2


def test_other_models_are_refused():
    with pytest.raises(ValueError, match=r'Conv2d is no detector or segmentor.*leave out --whole-model'):
        whole_model_call(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8), 'float32')
