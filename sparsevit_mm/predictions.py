"""What a test does with its predictions: merge augmented ones, draw them, write them."""

import copy
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

__all__ = ['TASKS_3D', 'draw_predictions', 'set_output', 'use_tta']

# What mmdet3d's visualization hook tells apart.
TASKS_3D = ('mono_det', 'multi-view_det', 'lidar_det', 'lidar_seg', 'multi-modality_det')


def use_tta(cfg: Config) -> None:
    """Test with augmentation, by ``tta_model`` and ``tta_pipeline`` of the config.

    A detector of mmdet whose config has none is tested on the image and its mirror image.

    Raises:
        ValueError: If the config does not say how and there is no default for its package, or on a model with
            masks, which mmdet cannot merge.
    """
    if cfg.get('default_scope') == 'mmdet':
        if any(part.get('mask_head') for part in (cfg.model, cfg.model.get('roi_head') or {})):
            raise ValueError('--tta does not go with a model that predicts masks: mmdet merges boxes only.')
        nms = dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
        cfg.setdefault('tta_model', ConfigDict(type='DetTTAModel', tta_cfg=nms))
        if 'tta_pipeline' not in cfg:
            cfg.tta_pipeline = _mirrored(_innermost(cfg.test_dataloader.dataset).pipeline)
    missing = [key for key in ('tta_model', 'tta_pipeline') if not cfg.get(key)]
    if missing:
        raise ValueError(f'--tta needs {" and ".join(missing)} in the config: which augmentations, and how to merge.')
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    _innermost(cfg.test_dataloader.dataset).pipeline = cfg.tta_pipeline


def _innermost(dataset: ConfigDict) -> ConfigDict:
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def _mirrored(pipeline: list[ConfigDict]) -> list[ConfigDict]:
    """A test pipeline that ends in two branches, one of them flipped."""
    pipeline = copy.deepcopy(list(pipeline))
    pack = ConfigDict(pipeline.pop())
    keys = list(pack.get('meta_keys', ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')))
    pack.meta_keys = tuple(keys + [key for key in ('flip', 'flip_direction') if key not in keys])
    flips = [ConfigDict(type='RandomFlip', prob=prob) for prob in (1.0, 0.0)]
    return [*pipeline, ConfigDict(type='TestTimeAug', transforms=[flips, [pack]])]


def draw_predictions(
    cfg: Config,
    show: bool = False,
    show_dir: str | None = None,
    wait_time: float = 2.0,
    task: str = 'mono_det',
    score_thr: float = 0.1,
) -> None:
    """Have the config's visualization hook show the predictions of a test, or write them.

    Args:
        cfg: The config, changed in place.
        show: Open a window for each image.
        show_dir: Folder for the pictures, below the work dir unless it is absolute.
        wait_time: Seconds a window stays.
        task: What mmdet3d draws, one of ``TASKS_3D``; other packages need no telling.
        score_thr: Least score of a box that mmdet3d draws.

    Raises:
        ValueError: If the config has no visualization hook.
    """
    if not (show or show_dir):
        return
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise ValueError(
            '--show and --show-dir need a hook: set default_hooks.visualization in the config, such as '
            "dict(type='DetVisualizationHook')."
        )
    hook.update(draw=True, interval=1)
    if show:
        hook.update(show=True, wait_time=wait_time)
    if cfg.get('default_scope') == 'mmdet3d':
        hook.update(vis_task=task, score_thr=score_thr)
    if not show_dir:
        return
    if cfg.get('default_scope') == 'mmseg':  # its hook has no folder of its own and goes by the visualizer's
        cfg.visualizer.save_dir = str(Path(cfg.work_dir, show_dir))
    else:
        hook.update(test_out_dir=show_dir)


def set_output(cfg: Config, out: str | None) -> Any:
    """Write the predictions of a test.

    Args:
        cfg: The config, changed in place.
        out: A ``.pkl`` file, for segmentors also a folder for label maps, or None.

    Returns:
        The metric to add to the runner's that writes the file, or None.

    Raises:
        ValueError: If there is no writer for such an output.
    """
    if out is None:
        return None
    if Path(out).suffix in ('.pkl', '.pickle'):
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        if cfg.get('default_scope') == 'mmdet':
            from mmdet.evaluation import DumpDetResults as Dump
        else:
            from mmengine.evaluator import DumpResults as Dump
        return Dump(out_file_path=out)
    if cfg.get('default_scope') != 'mmseg':
        raise ValueError(f'--out {out} must end in .pkl: only segmentors write a folder of predictions.')
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list | tuple) else [cfg.test_evaluator]
    for evaluator in evaluators:
        evaluator.update(output_dir=out, keep_results=True)
    print_log(f'label maps go to {out}', 'current')
    return None
