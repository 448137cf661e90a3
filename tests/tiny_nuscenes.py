"""A drawn set in nuScenes' format, and a stock FCOS3D config with a small Swin that reads it.

The info files are as mmdet3d's converter writes them (v1.1, one entry a moment with six cameras). The set is not one
of the devkit's: ``NuScenesMetric`` cannot score it.
"""

import pickle
from pathlib import Path

import cv2
import numpy as np

CAMERAS = tuple(f'CAM_{side}' for side in ('FRONT', 'FRONT_RIGHT', 'FRONT_LEFT', 'BACK', 'BACK_LEFT', 'BACK_RIGHT'))
CLASSES = (
    *('car', 'truck', 'trailer', 'bus', 'construction_vehicle', 'bicycle', 'motorcycle', 'pedestrian'),
    *('traffic_cone', 'barrier'),
)
WIDTH, HEIGHT, FOCAL = 128, 96, 100.0
CONFIG = """
_base_ = 'mmdet3d::fcos3d/fcos3d_r101-caffe-dcn_fpn_head-gn_8xb2-1x_nus-mono3d.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdet.SwinTransformer',
        embed_dims=16,
        depths=(2, 2),
        num_heads=(2, 4),
        strides=(4, 2),
        out_indices=(0, 1),
        window_size=4,
    ),
    neck=dict(in_channels=[16, 32], out_channels=32),
    bbox_head=dict(
        in_channels=32,
        feat_channels=32,
        cls_branch=(32,),
        reg_branch=((32,), (32,), (32,), (32,), ()),
        dir_branch=(32,),
        attr_branch=(32,),
        dcn_on_last_conv=False,
    ),
    test_cfg=dict(score_thr=0.0, nms_pre=20, max_per_img=20),
)
data_root = {root!r}
quick = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(**quick, dataset=dict(data_root=data_root))
val_dataloader = dict(**quick, batch_size=4, dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(data_root=data_root, ann_file=data_root + '/nuscenes_infos_val.pkl')
test_evaluator = val_evaluator
"""


def make_nuscenes(folder: Path, train: int = 3, val: int = 1) -> Path:
    """Pictures, info files and ``stock.py`` in a folder; the path of the last.

    Args:
        folder: Where to.
        train: Moments of the training set, six images each.
        val: Moments of the validation set.
    """
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for split, moments in (('train', train), ('val', val)):
        infos = dict(
            metainfo=dict(
                categories={name: i for i, name in enumerate(CLASSES)},
                dataset='nuscenes',
                version='v1.0-trainval',
                info_version='1.1',
            ),
            data_list=[_moment(folder, f'{split}{i}', i, rng) for i in range(moments)],
        )
        (folder / f'nuscenes_infos_{split}.pkl').write_bytes(pickle.dumps(infos))
    config = folder / 'stock.py'
    config.write_text(CONFIG.format(root=str(folder)))
    return config


def _moment(folder: Path, token: str, number: int, rng: np.random.Generator) -> dict:
    eye = np.eye(4).tolist()
    views = {camera: _view(folder / 'samples' / camera / f'{token}.jpg', rng) for camera in CAMERAS}
    return dict(
        sample_idx=number,
        token=token,
        timestamp=float(number),
        ego2global=eye,
        lidar_points=dict(num_pts_feats=5, lidar_path=f'{token}.pcd.bin', lidar2ego=eye),
        images={
            camera: dict(
                img_path=f'{token}.jpg',
                cam2img=[[FOCAL, 0.0, WIDTH / 2], [0.0, FOCAL, HEIGHT / 2], [0.0, 0.0, 1.0]],
                sample_data_token=f'{token}{camera}',
                timestamp=float(number),
                cam2ego=eye,
                lidar2cam=eye,
            )
            for camera in CAMERAS
        },
        instances=[],
        cam_instances=views,
    )


def _view(path: Path, rng: np.random.Generator) -> list[dict]:
    """Draws a picture with up to three objects and describes them; the last one has no lidar point."""
    picture = rng.integers(0, 90, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    objects = []
    for _ in range(rng.integers(0, 4)):
        label = int(rng.choice([0, 7]))
        x, y, z = (float(v) for v in (rng.uniform(-5, 5), rng.uniform(0, 2), rng.uniform(8, 30)))
        length, height, width = (4.0, 1.6, 1.8) if label == 0 else (0.7, 1.8, 0.7)
        centre = [FOCAL * x / z + WIDTH / 2, FOCAL * y / z + HEIGHT / 2]
        half = [FOCAL * length / z / 2, FOCAL * height / z / 2]
        box = [centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]]
        corners = [int(v) for v in box]
        cv2.rectangle(picture, corners[:2], corners[2:], (250, 60, 60) if label else (60, 250, 60), -1)
        objects.append(
            dict(
                bbox_label=label,
                bbox_label_3d=label,
                bbox=box,
                bbox_3d_isvalid=True,
                bbox_3d=[x, y, z, length, height, width, float(rng.uniform(-3, 3))],
                velocity=[0.5, 0.0],
                center_2d=centre,
                depth=z,
                attr_label=0,
            )
        )
    if len(objects) == 3:
        objects[-1]['bbox_3d_isvalid'] = False
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)
    return objects
