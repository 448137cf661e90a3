"""Configs made ready to be timed: the stock model and ours with the same weights."""

import copy
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from ..config import BACKBONE_KEYS, SPARSE_FORMS, drop_pretrained, load_config, sparsify_config

__all__ = ['Subject', 'load_subject', 'parse_sparsity']

# Our backbones and the stock ones whose arguments and weights they share, with the packages that have them.
STOCK_FORMS: dict[str, list[str]] = {}
for _stock, _forms in SPARSE_FORMS.items():
    for _ours in _forms:
        STOCK_FORMS.setdefault(_ours, []).append(_stock)
# Arguments of backbones that do not change what is computed in evaluation, or that tell rows apart.
IRRELEVANT = ('sparsity', 'init_cfg', 'pretrained', 'convert_weights', 'drop_path_rate')
ONLY_TRAINED = ('frozen_stages', 'with_cp')  # training feels these


class MissingStock(ValueError):
    """There is no stock backbone to compare with."""


@dataclass(frozen=True)
class Subject:
    """What one config gives to a benchmark.

    Args:
        config: Its name, for people.
        model: Our model, or our bare backbone.
        sparse: Our backbone in ``model``.
        sparsities: What to time it at, one float a site.
        stock_model: The stock counterpart of ``model``, if it is to be timed.
        stock: The stock backbone in ``stock_model``.
        architecture: Equal for configs that differ in nothing but sparsity, whose stock models are then the same.
        preprocessor: Config of the data preprocessor.
        trained: Whether the weights are those of a checkpoint.
        remark: Why there is no stock model, where it was only wanted if its package is installed.
    """

    config: str
    model: nn.Module
    sparse: nn.Module
    sparsities: tuple[tuple[float, ...], ...]
    stock_model: nn.Module | None = None
    stock: nn.Module | None = None
    architecture: str = field(default='', repr=False)
    preprocessor: Mapping[str, Any] = field(default_factory=dict, repr=False)
    trained: bool = False
    remark: str = ''

    @property
    def whole_model(self) -> bool:
        """Whether more than the backbone is timed."""
        return self.model is not self.sparse


def parse_sparsity(text: str) -> float | tuple[float, ...]:
    """A sparsity from the command line: ``0.6`` for all sites, ``.6,0,.2,.4,.5,0`` with one a site.

    Raises:
        ValueError: If it is not made of numbers.
    """
    try:
        values = tuple(float(part) for part in text.split(','))
    except ValueError:
        raise ValueError(
            f'sparsity {text!r} is neither a number nor numbers with commas between: write 0.6 for all sites, or '
            f'.6,0,.2,.4,.5,0 with one number a site and no spaces.'
        ) from None
    return values[0] if len(values) == 1 else values


def load_subject(
    config: str,
    sparsities: Sequence[float | Sequence[float]] | None = None,
    *,
    stock: bool = True,
    optional_stock: bool = False,
    whole_model: bool = False,
    training: bool = False,
    cfg_options: dict[str, Any] | None = None,
    checkpoint: str | None = None,
) -> Subject:
    """Build our model and the stock one from a config, with the same weights, random if no checkpoint is given.

    Args:
        config: Path, or ``mmdet::...`` and the like for an installed one. A stock config with a Swin is made
            sparse; for a config of ours the stock backbone with the same arguments is found.
        sparsities: What to time ours at; the config's own (0 for a stock one) if not given.
        stock: Also build the stock model.
        optional_stock: Leave it out with a remark where its package is not installed.
        whole_model: Build detectors and segmentors, not the bare backbone.
        training: Whether training steps are to be timed, which feel more of a config than a forward does.
        cfg_options: Overrides of the config.
        checkpoint: A file with the weights of the whole model.

    Raises:
        ValueError: If the config cannot be read, has no backbone that we know, or a sparsity or the checkpoint does not
            fit it.
    """
    from ..apis import build_model, init_scope

    ours, name = _sparse_config(load_config(config, cfg_options))
    drop_pretrained(ours)
    init_scope(ours)
    stock_config, remark = None, ''
    if stock:
        try:
            stock_config = stock_backbone_config(ours.model[name], ours.get('default_scope', 'mmdet'))
        except MissingStock as missing:
            if not optional_stock:
                raise
            stock, remark = False, f'There is no stock row of {_name(config)}: {missing}'
    if whole_model or checkpoint is not None:
        model = build_model(ours, checkpoint)
        sparse = getattr(model, name)
        model = model if whole_model else sparse
    else:
        model = sparse = _build(ours.model[name])
    stock_backbone = _stock_backbone(stock_config, sparse) if stock else None
    layout = sparse.sparsity_layout
    return Subject(
        config=_name(config),
        model=model,
        sparse=sparse,
        sparsities=tuple(layout.normalize(s) for s in ([sparse.sparsity] if sparsities is None else sparsities)),
        stock_model=_with_backbone(model, name, stock_backbone) if stock and whole_model else stock_backbone,
        stock=stock_backbone,
        architecture=_architecture(ours, name, stock_config, whole_model, training),
        preprocessor=dict(ours.model.get('data_preprocessor') or {}),
        trained=checkpoint is not None,
        remark=remark,
    )


def _name(config: str) -> str:
    return config if '::' in config else Path(config).stem


def stock_backbone_config(backbone: dict[str, Any], scope: str) -> dict[str, Any]:
    """The stock backbone that one of ours equals at sparsity 0, as a config with the arguments that it takes.

    Raises:
        MissingStock: If there is none, or its package is not installed.
    """
    from mmengine.registry import MODELS

    ours = backbone['type'].rsplit('.', 1)[-1]
    if ours not in STOCK_FORMS:
        raise MissingStock(f'{ours} has no stock counterpart to compare with: use --no-stock.')
    kinds = STOCK_FORMS[ours]
    kind = next((kind for kind in kinds if kind.startswith(f'{scope}.') and scope != 'mmdet3d'), kinds[0])
    try:
        stock = MODELS.get(kind)
    except ImportError:  # a package that is there and cannot be imported
        stock = None
    if stock is None:
        raise MissingStock(
            f'The stock backbone {kind} is not installed: install {kind.split(".")[0]}, or use --no-stock.'
        )
    known = inspect.signature(stock.__init__).parameters
    return {'type': kind, **{key: value for key, value in backbone.items() if key in known}}


def _sparse_config(cfg: Config) -> tuple[Config, str]:
    """The config with a backbone of ours, at the sparsity that it has or else at 0, and the backbone's key.

    Raises:
        ValueError: If there is no backbone that we know where a model has it.
    """
    model = cfg.get('model') or {}
    name = next((key for key in BACKBONE_KEYS if key in model), None)
    ours = sparsify_config(cfg, model[name].get('sparsity', 0.0) if name else 0.0)
    if name is None:
        raise ValueError(f'the backbone must be at {" or ".join(f"model.{key}" for key in BACKBONE_KEYS)} to be timed.')
    return ours, name


def _architecture(
    cfg: Config, name: str, stock_config: dict[str, Any] | None, whole_model: bool, training: bool
) -> str:
    """The model without its sparsity and what is not felt, as text."""
    backbone = stock_config or cfg.model[name]
    unfelt = IRRELEVANT if training else IRRELEVANT + ONLY_TRAINED
    backbone = {key: value for key, value in backbone.items() if key not in unfelt}
    return json.dumps({**cfg.model, name: backbone} if whole_model else backbone, sort_keys=True, default=str)


def _build(cfg: dict[str, Any]) -> nn.Module:
    from mmengine.registry import MODELS

    return MODELS.build(copy.deepcopy(dict(cfg)))


def _stock_backbone(cfg: dict[str, Any], sparse: nn.Module) -> nn.Module:
    stock = _build(cfg)
    missing = stock.load_state_dict(sparse.state_dict(), strict=False).missing_keys
    assert not missing, f'{type(sparse).__name__} lacks weights of {cfg["type"]}: {missing}'
    return stock


def _with_backbone(model: nn.Module, name: str, backbone: nn.Module) -> nn.Module:
    """A copy of a model with another backbone."""
    own = getattr(model, name)
    clone = copy.deepcopy(model, {id(own): backbone})  # the memo puts the other backbone where ours would be copied
    assert getattr(clone, name) is backbone
    return clone
