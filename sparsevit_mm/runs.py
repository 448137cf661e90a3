"""Training and testing a config, with its mistakes found before the work begins."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from .apis import drop_pretrained, init_scope
from .compat import allow_mmengine_checkpoints
from .distributed import prepare_launch
from .models.checkpoints import check_whole, load_into, read_checkpoint, state_of
from .precision import fit_precision
from .predictions import set_output

__all__ = ['CheckedRunner', 'build_runner', 'evaluate', 'scale_lr', 'set_resume', 'set_work_dir', 'train']


class CheckedRunner(Runner):
    """mmengine's runner that says so when a data set is empty or cannot be built.

    An infinite sampler over an empty set hangs, and a finite one trains zero iterations in silence.
    """

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict[str, Any], seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """As mmengine's.

        Raises:
            ValueError: If the data set is empty or does not go with its config.
        """
        what = _describe(dataloader.get('dataset')) if isinstance(dataloader, Mapping) else 'given'
        empty = f'the data set is empty: {what}. Check its folders, its annotation file and its filters.'
        try:
            loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        except (AssertionError, KeyError, TypeError) as error:
            raise ValueError(f'the data set cannot be built ({what}): {error}') from error
        except ValueError as error:  # mmengine packs all samples into one array, NumPy refuses to with none
            raise ValueError(empty) if 'need at least one array' in str(error) else error from error
        if hasattr(loader.dataset, '__len__') and len(loader.dataset) == 0:
            raise ValueError(empty)
        return loader


def _describe(dataset: Any) -> str:
    if not isinstance(dataset, Mapping):
        return type(dataset).__name__
    keys = ('type', 'data_root', 'ann_file', 'data_prefix')
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return ', '.join(f'{key}={dict(v) if isinstance(v, Mapping) else v!r}' for key in keys if (v := dataset.get(key)))


def set_work_dir(cfg: Config, config: str | Path, work_dir: str | None = None) -> None:
    """Choose the work dir and make sure that it can be written to.

    Args:
        cfg: The config, changed in place.
        config: The file it came from, whose name is the last resort.
        work_dir: What the user asked for; else the config's own, else ``work_dirs/NAME``.

    Raises:
        OSError: If the folder cannot be made or written to.
    """
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs', Path(str(config)).stem))
    Path(cfg.work_dir).mkdir(parents=True, exist_ok=True)
    probe = Path(cfg.work_dir, '.writable')
    probe.touch()
    probe.unlink(missing_ok=True)  # another rank may have been faster


def scale_lr(cfg: Config) -> None:
    """Turn on the scaling of the learning rate by the batch size.

    Raises:
        ValueError: If the config does not say for which batch size its rate is meant.
    """
    if not {'enable', 'base_batch_size'} <= set(cfg.get('auto_scale_lr') or {}):
        raise ValueError(
            '--auto-scale-lr needs auto_scale_lr = dict(enable=..., base_batch_size=...) in the config, the number '
            'of images of a step that its learning rate is meant for.'
        )
    cfg.auto_scale_lr.enable = True


def set_resume(cfg: Config, resume: str | None) -> None:
    """Go on from a checkpoint.

    Args:
        cfg: The config, changed in place.
        resume: A checkpoint file, ``'auto'`` for the latest one of the work dir if there is one, or None.

    Raises:
        ValueError: If the checkpoint cannot be read.
    """
    if resume is None:
        return
    cfg.resume = True
    cfg.load_from = None if resume == 'auto' else resume
    start = find_latest_checkpoint(cfg.work_dir) if resume == 'auto' else resume
    if start is not None:
        if 'optimizer' not in read_checkpoint(start):
            raise ValueError(
                f'checkpoint {start} holds no optimizer state, so training cannot go on from it. To start a new '
                f'training from its weights, use --cfg-options load_from={start}.'
            )
        drop_pretrained(cfg)


def build_runner(cfg: Config) -> Runner:
    """The runner of a config that :func:`set_work_dir` has been called on.

    Raises:
        ValueError: If the config cannot be built.
    """
    allow_mmengine_checkpoints()
    init_scope(cfg)
    fit_precision(cfg)
    prepare_launch(cfg)
    try:
        return RUNNERS.build(cfg) if 'runner_type' in cfg else CheckedRunner.from_cfg(cfg)
    except (AssertionError, KeyError, TypeError) as error:
        raise ValueError(f'the config cannot be built: {error}') from error


def train(cfg: Config) -> nn.Module:
    """Train a config; returns the model.

    Raises:
        ValueError: If the config, its data or the checkpoint that it starts from is not usable.
    """
    _require(cfg, 'train_dataloader', 'train_cfg', 'optim_wrapper')
    start = cfg.get('load_from')
    if start:
        drop_pretrained(cfg)
    runner = build_runner(cfg)
    if start and '://' not in str(start):
        check = check_whole if cfg.get('resume') else _check_overlap
        check(_unwrap(runner.model), state_of(read_checkpoint(start), start), start)
    return runner.train()


def evaluate(cfg: Config, checkpoint: str, out: str | None = None) -> dict[str, float]:
    """Test a checkpoint on the test set of a config; returns its metrics.

    Args:
        cfg: The config.
        checkpoint: Weights of exactly this model.
        out: Where predictions go: a ``.pkl`` file, or for segmentors a folder of label maps.

    Raises:
        ValueError: If the config, its data or the checkpoint is not usable.
    """
    _require(cfg, 'test_dataloader', 'test_evaluator', 'test_cfg')
    if not Path(checkpoint).exists() and '://' not in str(checkpoint):
        raise ValueError(f'there is no checkpoint {checkpoint!r}.')
    cfg.load_from, cfg.resume = None, False  # mmengine would load a foreign file with no more than a warning
    drop_pretrained(cfg)
    dump = set_output(cfg, out)
    runner = build_runner(cfg)
    load_into(_unwrap(runner.model), checkpoint, whole=True)
    if dump:
        runner.test_evaluator.metrics.append(dump)
    return runner.test()


def _require(cfg: Config, *keys: str) -> None:
    missing = [key for key in keys if not cfg.get(key)]
    if missing:
        raise ValueError(f'the config has no {", ".join(missing)}, which this command needs.')


def _check_overlap(model: nn.Module, state: dict[str, Tensor], path: str) -> None:
    """A start from other classes or another neck is fine, one that shares nothing is a mistake."""
    wanted = model.state_dict()
    if not any(key in state and state[key].shape == value.shape for key, value in wanted.items()):
        raise ValueError(
            f'checkpoint {path} has no tensor in common with the model of the config. It begins with '
            f'{", ".join(list(state)[:3])}, the model with {", ".join(list(wanted)[:3])}.'
        )


def _unwrap(model: nn.Module) -> nn.Module:
    from mmengine.model import BaseTTAModel

    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
