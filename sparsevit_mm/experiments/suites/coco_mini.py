"""Instance segmentation of a few COCO pictures, trained and tested on the same ones."""

from typing import Any

from ..plan import Claim, Suite
from .parts import GENTLE, SwinPath, by_epochs, size_candidate

__all__ = ['COCO_MINI']

STEM = 'sparsevit/mask-rcnn_swin-t-p4-w7_fpn_24e_coco-mini'
SHAPE = (336, 448)
PICTURES = 24
DENSE, ADAPT, TUNE = 80, 20, 20
BUDGET = 0.65
META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances')
# A compact Swin in a Mask R-CNN of few channels.
COMPACT: dict[str, Any] = {
    'model.backbone.embed_dims': 32,
    'model.backbone.num_heads': [2, 4, 8, 16],
    'model.backbone.drop_path_rate': 0.0,
    'model.neck.in_channels': [32, 64, 128, 256],
    'model.neck.out_channels': 64,
    'model.rpn_head.in_channels': 64,
    'model.rpn_head.feat_channels': 64,
    'model.roi_head.bbox_roi_extractor.out_channels': 64,
    'model.roi_head.bbox_head.in_channels': 64,
    'model.roi_head.bbox_head.fc_out_channels': 256,
    'model.roi_head.mask_roi_extractor.out_channels': 64,
    'model.roi_head.mask_head.num_convs': 2,
    'model.roi_head.mask_head.in_channels': 64,
    'model.roi_head.mask_head.conv_out_channels': 64,
    'model.train_cfg.rpn_proposal.nms_pre': 500,
    'model.train_cfg.rpn_proposal.max_per_img': 200,
    'model.train_cfg.rcnn.sampler.num': 128,
    'model.test_cfg.rpn.nms_pre': 300,
    'model.test_cfg.rpn.max_per_img': 100,
}
# The training pictures are the tested ones; their ground truth comes with them.
SAME_PICTURES: dict[str, Any] = {
    'train_dataloader.batch_size': 4,
    'train_dataloader.dataset.indices': PICTURES,
    'train_dataloader.batch_sampler': None,
    'test_dataloader.dataset.ann_file': 'annotations/instances_train2017.json',
    'test_dataloader.dataset.data_prefix.img': 'train2017/',
    'test_dataloader.dataset.indices': PICTURES,
    'test_dataloader.dataset.filter_cfg': dict(filter_empty_gt=True, min_size=32),
    'test_dataloader.dataset.test_mode': False,
    'test_dataloader.dataset.pipeline.3.meta_keys': META,
    'test_evaluator.ann_file': None,
    'val_cfg': None,
    'val_dataloader': None,
    'val_evaluator': None,
}
SCALES = {'train': 2, 'test': 1}  # places of Resize in the pipelines


def _sizes() -> list[dict[str, Any]]:
    sides = ((height, height * 4 // 3) for height in range(168, 336, 12))
    return [size_candidate((height, width), (width, height), SCALES) for height, width in sides]


SAVED = {'default_hooks.checkpoint.interval': 5, 'default_hooks.checkpoint.max_keep_ckpts': 2}
OPTIM = {'optim_wrapper.optimizer.lr': 0.0005}
COMMON = {**COMPACT, **SAME_PICTURES, **SAVED, **OPTIM}
PATH = SwinPath(
    dense=f'{STEM}.py',
    adapt=f'{STEM}_sparse-adapt.py',
    search=f'{STEM}_sparse-search.py',
    tune=f'{STEM}_sparse-example.py',
    shape=SHAPE,
    common=COMMON,
    test={'splits': ('test',)},
    longer=by_epochs(ADAPT + TUNE, lr=GENTLE),
)


COCO_MINI = Suite(
    name='coco-mini',
    title='Instance segmentation: the same pictures trained and tested',
    about=f"""Mask R-CNN with a Swin of 2-2-6-2 blocks and 32 channels on the first {PICTURES} pictures of
`data/coco_mini`, 336x448, **trained and tested on the same pictures**: it shows that detectors train to the end with
pruned windows, and says nothing about pictures that were not trained on. {DENSE} epochs dense, {ADAPT} of adaptation
and {TUNE} of fine-tuning, batch 4. There is no search, which takes training pictures that are not reported: sparse rows
have one sparsity for all sites.""",
    runs=PATH.overfitted(BUDGET, _sizes(), (DENSE, ADAPT, TUNE), warmup=100),
    metric='coco/segm_mAP',
    seeds=(0, 1),
    metric_title='mask AP',
    scale=100.0,
    data=('data/coco_mini/annotations/instances_train2017.json',),
    claims=(
        Claim('at most 1 below dense trained as long', 'uniform sparsity', 'dense, trained as long', BUDGET, -1.0),
        Claim('better than a smaller input', 'uniform sparsity', 'smaller input', BUDGET),
    ),
)
