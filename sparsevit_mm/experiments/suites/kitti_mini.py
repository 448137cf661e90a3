"""Monocular 3D detection on a few KITTI frames, trained and tested on the same ones."""

from typing import Any

from ..plan import Claim, Suite
from .parts import GENTLE, SwinPath, by_epochs, size_candidate

__all__ = ['KITTI_MINI']

STEM = 'sparsevit/pgd_swin-t-p4-w7_fpn_48e_kitti-mini-mono3d'
FILE = 'kitti_infos_train_mono3d.json'
SHAPE = (192, 640)  # 188x624, padded to multiples of 32 as the model does
DENSE, ADAPT, TUNE = 80, 20, 20
BUDGET = 0.65
COMMON: dict[str, Any] = {
    'model.backbone.embed_dims': 32,
    'model.backbone.num_heads': (2, 4, 8, 16),
    'model.backbone.drop_path_rate': 0.0,
    'model.neck.in_channels': [32, 64, 128, 256],
    'model.neck.out_channels': 64,
    'model.bbox_head.in_channels': 64,
    'model.bbox_head.feat_channels': 64,
    'model.bbox_head.cls_branch': (64,),
    'model.bbox_head.reg_branch': ((64,),) * 6,
    'model.bbox_head.dir_branch': (64,),
    'model.bbox_head.depth_branch': (64,),
    'model.bbox_head.centerness_branch': (64,),
    'train_dataloader.batch_size': 4,
    'test_dataloader.dataset.ann_file': FILE,
    'test_evaluator.ann_file': f'data/kitti_mini/{FILE}',
    'val_cfg': None,
    'val_dataloader': None,
    'val_evaluator': None,
    'default_hooks.checkpoint.interval': 10,
    'optim_wrapper.optimizer.lr': 0.0005,
}
SCALES = {'train': 2, 'test': 1}  # places of Resize3D in the pipelines


def _sizes() -> list[dict[str, Any]]:
    """Smaller frames of nearly the same form; sizes of the network are multiples of 32."""
    sides = ((height, round(height * 624 / 188)) for height in (94, 112, 120, 128, 136, 144, 152, 160))
    return [
        size_candidate((-(-height // 32) * 32, -(-width // 32) * 32), (width, height), SCALES)
        for height, width in sides
    ]


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


KITTI_MINI = Suite(
    name='kitti-mini',
    title='Monocular 3D detection: the same frames trained and tested',
    about=f"""PGD with a Swin of 2-2-6-2 blocks and 32 channels and a head of 64 channels on the 25 training frames of
`data/kitti_mini`, 188x624, **trained and tested on the same frames**, scored by `sparsevit_mm.KittiMonoMetric`, KITTI's
rules on the CPU, at its loose overlaps. {DENSE} epochs dense, {ADAPT} of adaptation and {TUNE} of fine-tuning, batch 4.
There is no search, which takes training pictures that are not reported: sparse rows have one sparsity for all
sites.""",
    runs=PATH.overfitted(BUDGET, _sizes(), (DENSE, ADAPT, TUNE), warmup=50),
    metric='pred_instances_3d/KITTI/Overall_3D_AP40_moderate_loose',
    seeds=(0, 1),
    metric_title='3D AP40, loose',
    data=(f'data/kitti_mini/{FILE}',),
    claims=(
        Claim('at most 1 below dense trained as long', 'uniform sparsity', 'dense, trained as long', BUDGET, -1.0),
        Claim('better than a smaller input', 'uniform sparsity', 'smaller input', BUDGET),
    ),
)
