"""Turning a built, trained stock model into its sparse form."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..registry import MODELS, SCOPE
from .backbones import SparseBackbone
from .stock import FAMILIES, StockFamily, family_of

__all__ = ['find_sparse_backbone', 'sparsify']

KNOWN = '; '.join(map(str, FAMILIES))


def find_sparse_backbone(model: nn.Module) -> SparseBackbone:
    """The sparse backbone inside a model, which may be wrapped for data-parallel training.

    Raises:
        ValueError: If there is none, or more than one.
    """
    found = [module for module in model.modules() if isinstance(module, SparseBackbone)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f'{type(model).__name__} has {len(found)} sparse backbones; pass the one that is meant.')
    backbone = getattr(model, 'backbone', None)
    raise ValueError(
        f'{type(model).__name__} has no sparse backbone'
        + (f', its backbone is a {type(backbone).__name__}' if backbone is not None else '')
        + f'. Swap one in: model=dict(backbone=dict(type="sparsevit_mm.SparseSwin")), or sparsify(model, ...) for '
        f'a built model. Known: {KNOWN}.'
    )


def sparsify(
    model: nn.Module, sparsity: float | Sequence[float] = 0.0, *, backbone_type: str | None = None, **options: Any
) -> nn.Module:
    """Makes a built and trained mm model sparse, in place.

    The backbone is replaced by its sparse form with the same parameter objects, so optimizers and averaged copies
    hold on; selectors and fast paths are new and untrained. On a model of ours it sets the sparsity.

    Args:
        model: A detector, segmentor or mono-3D model, or a backbone alone (then its sparse form is returned, and
            the given module shares its parameters).
        sparsity: Fraction of units that a site does not compute, for all sites or one value each.
        backbone_type: Sparse form to change to where more than one fits, such as ``'DynamicSwin'`` for a Swin.
        **options: More arguments of the sparse backbone, such as ``selector``.

    Returns:
        The model.

    Raises:
        ValueError: If the model has no backbone that is known, or an option does not fit.
    """
    if any(isinstance(module, SparseBackbone) for module in model.modules()):
        sparse = find_sparse_backbone(model)
        wanted = type(sparse).__name__ if backbone_type is None else backbone_type.removeprefix(f'{SCOPE}.')
        if options or wanted != type(sparse).__name__:
            names = ', '.join([*options, *(['backbone_type'] if wanted != type(sparse).__name__ else [])])
            raise ValueError(f'{type(model).__name__} is sparse already; {names} can only be chosen when it is built.')
        sparse.sparsity = sparsity
        return model
    if (family := family_of(model)) is not None:
        return _sparse_form(model, family, backbone_type, sparsity, options)
    places = [
        (parent, name) for parent in model.modules() for name, child in parent.named_children() if family_of(child)
    ]
    if len(places) != 1:
        backbone = getattr(model, 'backbone', None)
        what = (
            f'has {len(places)} backbones that could be meant'
            if places
            else f'has no backbone that we know ({type(backbone).__name__})'
        )
        raise ValueError(f'{type(model).__name__} {what}. Known: {KNOWN}.')
    parent, name = places[0]
    stock = getattr(parent, name)
    setattr(parent, name, _sparse_form(stock, family_of(stock), backbone_type, sparsity, options))
    return model


def _sparse_form(
    stock: nn.Module,
    family: StockFamily,
    backbone_type: str | None,
    sparsity: float | Sequence[float],
    options: dict[str, Any],
) -> SparseBackbone:
    """The sparse form of a stock backbone, made of the stock one's own layers."""
    chosen = (backbone_type or family.forms[0]).removeprefix(f'{SCOPE}.')
    if chosen not in family.forms:
        raise ValueError(
            f'backbone_type {backbone_type!r} is no sparse form of {family.name}; there is {", ".join(family.forms)}. '
            f'Known: {KNOWN}.'
        )
    sparse = _build_empty(chosen, family.arguments(stock) | dict(sparsity=sparsity) | options)
    sparse.init_cfg = stock.init_cfg
    _take_over(sparse, stock)
    _make_new_layers(sparse, next(stock.parameters()).device)
    sparse._is_init = True
    for module in sparse.modules():
        module.training = stock.training
    if stock.training:
        sparse.train()  # frozen stages stay in evaluation mode
    return sparse


def _build_empty(name: str, arguments: dict[str, Any]) -> SparseBackbone:
    """A backbone whose parameters hold nothing yet."""
    try:
        with torch.device('meta'):
            return MODELS.get(f'{SCOPE}.{name}')(**arguments)
    except TypeError as error:
        raise ValueError(f'sparsify got an option that {name} does not take: {error}.') from error


def _make_new_layers(sparse: SparseBackbone, device: torch.device) -> None:
    """Gives values to what the stock backbone does not have: selectors and fast paths."""
    for module in sparse.modules():
        if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
            module.to_empty(device=device, recurse=False)
    sparse.init_grown_parts()


def _take_over(sparse: nn.Module, stock: nn.Module) -> None:
    """Puts the stock backbone's own layers, parameters and buffers at the same names of the sparse one.

    Layers that are classes of mmpretrain's are called otherwise than ours, so only their parameters are taken.
    """
    names = {name for name, _ in sparse.named_modules()}
    for name, layer in stock.named_modules():
        parent, _, leaf = name.rpartition('.')
        if name in names and not list(layer.children()) and not type(layer).__module__.startswith('mmpretrain.'):
            setattr(sparse.get_submodule(parent), leaf, layer)
    for name, parameter in stock.named_parameters():
        parent, _, leaf = name.rpartition('.')
        sparse.get_submodule(parent)._parameters[leaf] = parameter
    for name, buffer in stock.named_buffers():
        parent, _, leaf = name.rpartition('.')
        sparse.get_submodule(parent)._buffers[leaf] = buffer
