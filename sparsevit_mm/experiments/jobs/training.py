"""Training a config and testing what comes of it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from ...apis import build_model, load_config
from ...cost import count_macs
from ...models import find_sparse_backbone
from ...models.checkpoints import read_checkpoint
from ...precision import training_dtype
from ...runs import evaluate
from .job import Job

__all__ = ['evaluate_run', 'resume_point', 'train_run']

SPLITS = ('val', 'test')


def train_run(job: Job) -> dict[str, Any]:
    """Train to the end, from wherever an earlier start got to, and test the last weights.

    Nothing chooses among checkpoints. Options are ``shape``, the height and width in pixels that MACs are counted for,
    and ``splits``, what is tested.

    Returns:
        The last checkpoint as ``checkpoint``, what it was trained in as ``dtype``, and what :func:`evaluate_run` gives.

    Raises:
        ValueError: If the training fails by a mistake in the config, or the last checkpoint cannot be used.
    """
    folder = job.folder / 'train'
    cfg = load_config(job.config)
    last = folder / last_checkpoint(cfg)
    start = resume_point(folder)
    if start != last:
        words = [str(job.config), '--work-dir', str(folder)]
        job.tool('train.py', words if start is None else [*words, '--resume', str(start)])
    result = {'checkpoint': job.file(last), 'dtype': training_dtype(cfg), **_evaluated(job, last)}
    for path in _checkpoints(folder):
        if path != last:
            path.unlink()
    return result


def evaluate_run(job: Job) -> dict[str, Any]:
    """Test weights at the sparsity of the config, without any training.

    Options are those of :func:`train_run`, and the ``checkpoint``.

    Returns:
        ``metrics`` of each split, and what the model is: ``sparsity``, ``macs`` of the backbone for one image,
        ``parameters`` of the whole model, ``shape`` and its ``config``.

    Raises:
        ValueError: If the config or the checkpoint cannot be used.
    """
    return _evaluated(job, Path(job.options['checkpoint']))


def resume_point(folder: Path) -> Path | None:
    """The furthest checkpoint of a work dir that can be read to its end; None for none.

    A process that is killed may leave the last one, or the file that names it, unfinished.
    """
    for path in _checkpoints(folder):
        try:
            if 'optimizer' in read_checkpoint(path):
                return path
        except ValueError as error:
            print_log(f'{path} is passed over: {error}', logger='current')
    return None


def last_checkpoint(cfg: Config) -> str:
    """Name of the checkpoint that a training ends with."""
    loop = cfg.train_cfg
    return f'epoch_{loop.max_epochs}.pth' if loop.get('max_epochs') else f'iter_{loop.max_iters}.pth'


def _checkpoints(folder: Path) -> list[Path]:
    """The furthest one first."""

    named = ((path, re.fullmatch(r'(?:epoch|iter)_(\d+)\.pth', path.name)) for path in folder.glob('*.pth'))
    progress = {path: int(match[1]) for path, match in named if match}
    return sorted(progress, key=progress.__getitem__, reverse=True)


def _evaluated(job: Job, checkpoint: Path) -> dict[str, Any]:
    metrics = {split: _metrics(job, split, checkpoint) for split in job.options.get('splits', SPLITS)}
    model = build_model(load_config(job.config))
    backbone, shape = find_sparse_backbone(model), tuple(job.options['shape'])
    return {
        'metrics': metrics,
        'sparsity': list(backbone.sparsity),
        'macs': count_macs(backbone, shape),
        'parameters': sum(parameter.numel() for parameter in model.parameters()),
        'shape': list(shape),
        'config': job.file(job.config),
    }


def _metrics(job: Job, split: str, checkpoint: Path) -> dict[str, float]:
    cfg = load_config(job.config)
    if split == 'val':
        cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.val_evaluator
    cfg.test_cfg = dict(type='TestLoop')
    cfg.work_dir = str(job.folder / 'test' / split)
    Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
    cfg.experiment_name = f'{job.folder.name}_{split}'
    if cfg.get('visualizer'):
        cfg.visualizer.name = cfg.experiment_name  # several runners in a process
    return dict(_numbers(evaluate(cfg, str(checkpoint))))


def _numbers(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Those that JSON can hold."""
    for name, value in metrics.items():
        try:
            yield name, float(value)
        except (TypeError, ValueError):  # a text, or an array of one value a class
            continue
