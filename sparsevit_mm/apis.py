"""From a config, stock or ours, to a model: what every tool does first."""

import copy
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.config import Config, ConfigDict

from .config import drop_pretrained, load_config, sparsify_config
from .extras import install_hint

if TYPE_CHECKING:
    from torch import nn

__all__ = ['build_model', 'drop_pretrained', 'init_scope', 'load_config', 'load_sparse_model', 'sparsify_config']

PACKAGES = ('mmdet', 'mmseg', 'mmdet3d')


def init_scope(cfg: Config) -> None:
    """Register the modules of every package that the config names, and make its default scope the current one.

    Raises:
        ValueError: If one of these packages is missing or cannot be imported.
    """
    from mmengine.registry import init_default_scope

    default = cfg.get('default_scope') or 'mmengine'
    for scope in sorted({default, *_scopes(cfg.to_dict())}):
        if scope in PACKAGES:
            _register_package(scope)
    init_default_scope(default)


def _register_package(package: str) -> None:
    try:
        importlib.import_module(f'{package}.utils').register_all_modules(init_default_scope=False)
    except ModuleNotFoundError as error:
        raise ValueError(
            f'the config needs {package}, but {error.name} is not installed: {install_hint(package)}, or '
            f'bash tools/setup_env.sh in a clone.'
        ) from error
    except (AssertionError, ImportError) as error:  # the packages assert each other's versions
        raise ValueError(f'the config needs {package}, which cannot be imported here: {error}') from error


def _scopes(node: Any) -> Iterator[str]:
    """The package names before a dot in every ``type`` below a node, and every ``_scope_``."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in ('type', '_scope_') and isinstance(value, str):
                yield value.partition('.')[0]
            else:
                yield from _scopes(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _scopes(value)


def build_model(cfg: Config, checkpoint: str | None = None, device: str = 'cpu') -> 'nn.Module':
    """The model of a config in evaluation mode, ready for the inference functions of its package.

    Args:
        cfg: A config as :func:`load_config` gives it; it is copied, and the copy becomes ``model.cfg``.
        checkpoint: A file with the weights of exactly this model.
        device: Where the model goes.

    Raises:
        ValueError: If the config cannot be built, the checkpoint does not belong to it, or the device is not
            there.
    """
    import torch

    if str(device).startswith('cuda') and not torch.cuda.is_available():
        raise ValueError(f'device {device!r} is asked for, but torch sees no CUDA device here: use cpu.')
    cfg = copy.deepcopy(cfg)
    drop_pretrained(cfg)
    init_scope(cfg)
    model = _build(cfg.model)
    meta = {}
    if checkpoint is not None:
        from .models.checkpoints import load_into

        meta = load_into(model, checkpoint, whole=True).get('meta') or {}
    model.dataset_meta = _dataset_meta(cfg, meta)
    model.cfg = cfg
    return model.to(device).eval()


def load_sparse_model(
    config: str | Path,
    checkpoint: str | None = None,
    sparsity: float | Sequence[float] | None = None,
    *,
    device: str = 'cpu',
    cfg_options: Mapping[str, Any] | None = None,
) -> tuple[Config, 'nn.Module']:
    """The config and the model, with a sparse backbone, that a tool was asked for.

    Args:
        config: Path, or ``mmdet::...`` and the like, stock or ours.
        checkpoint: A file with the weights of exactly this model; random ones if not given.
        sparsity: Makes a stock backbone sparse, and sets that of ours; the config's own if not given.
        device: Where the model goes.
        cfg_options: Overrides of the config.

    Raises:
        ValueError: On a mistake in the config or an argument, if the checkpoint does not fit, or if there is no sparse
            backbone.
    """
    from .models import find_sparse_backbone

    cfg = load_config(config, cfg_options)
    if sparsity is not None:
        cfg = sparsify_config(cfg, sparsity)
    model = build_model(cfg, checkpoint, device)
    try:
        find_sparse_backbone(model)
    except ValueError as error:
        raise ValueError(f'{error} Or give --sparsity, which makes a stock config with a Swin sparse.') from error
    return cfg, model


def _build(model_cfg: ConfigDict) -> 'nn.Module':
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import MODELS

    try:
        return revert_sync_batchnorm(MODELS.build(model_cfg))
    except (AssertionError, KeyError, TypeError) as error:
        raise ValueError(f'the model of the config cannot be built: {error}') from error


def _dataset_meta(cfg: Config, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Class names and colours: from the checkpoint, else from the dataset that the config tests on."""
    from mmengine.registry import DATASETS

    known: dict[str, Any] = {}
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    if dataset.get('type') is not None:
        with DATASETS.switch_scope_and_registry(dataset.get('_scope_')) as registry:
            kind = dataset['type'] if isinstance(dataset['type'], type) else registry.get(dataset['type'])
        known.update(getattr(kind, 'METAINFO', None) or {})
        known.update({key: value for key, value in (dataset.get('metainfo') or {}).items() if key != '_scope_'})
    if 'dataset_meta' in meta:
        known.update(meta['dataset_meta'])
    else:  # checkpoints of mmdet 2.x and mmseg 0.x
        known.update({key.lower(): meta[key] for key in ('CLASSES', 'PALETTE') if meta.get(key) is not None})
    known = {key.lower(): value for key, value in known.items()}
    if known.get('palette') is None:
        known['palette'] = 'random'
    return known
