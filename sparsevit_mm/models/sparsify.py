"""Turning a built, trained stock model into its sparse form."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .backbones import SparseBackbone, SparseSwin

__all__ = ['find_sparse_backbone', 'sparsify']

KNOWN = 'SwinTransformer of mmdet or mmseg -> SparseSwin'


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
    hold on. On a model of ours it sets the sparsity.

    Args:
        model: A detector, segmentor or mono-3D model, or a backbone alone (then its sparse form is returned, and
            the given module shares its parameters).
        sparsity: Fraction of units that a site does not compute, for all sites or one value each.
        backbone_type: Family to change to where more than one fits.
        **options: More arguments of the sparse backbone, such as ``selector``.

    Returns:
        The model.

    Raises:
        ValueError: If the model has no backbone that is known, or an option does not fit.
    """
    if backbone_type not in (None, 'SparseSwin', 'sparsevit_mm.SparseSwin'):
        raise ValueError(f'backbone_type {backbone_type!r} is not known for a Swin; known: {KNOWN}.')
    if any(isinstance(module, SparseBackbone) for module in model.modules()):
        if options:
            names = ', '.join(options)
            raise ValueError(f'{type(model).__name__} is sparse already; {names} can only be chosen when it is built.')
        find_sparse_backbone(model).sparsity = sparsity
        return model
    if _is_swin(model):
        return _sparse_swin(model, sparsity, options)
    places = [
        (parent, name) for parent in model.modules() for name, child in parent.named_children() if _is_swin(child)
    ]
    if len(places) != 1:
        backbone = getattr(model, 'backbone', None)
        what = (
            f'has {len(places)} Swin backbones'
            if places
            else f'has no backbone that we know ({type(backbone).__name__})'
        )
        raise ValueError(f'{type(model).__name__} {what}. Known: {KNOWN}.')
    parent, name = places[0]
    setattr(parent, name, _sparse_swin(getattr(parent, name), sparsity, options))
    return model


def _is_swin(module: nn.Module) -> bool:
    """Whether a module is the Swin of mmdet or mmseg, or derives from it."""
    return any(
        cls.__name__ == 'SwinTransformer' and cls.__module__.split('.')[0] in ('mmdet', 'mmseg')
        for cls in type(module).__mro__
    )


def _sparse_swin(stock: nn.Module, sparsity: float | Sequence[float], options: dict[str, Any]) -> SparseSwin:
    """The sparse form of a stock Swin, made of the stock one's own layers."""
    first = stock.stages[0].blocks[0]
    attention = first.attn.w_msa
    has_positions = getattr(stock, 'use_abs_pos_embed', False)
    strides = [stock.patch_embed.projection.stride[0]]
    strides += [stage.downsample.sampler.stride[0] for stage in stock.stages if stage.downsample is not None]
    arguments: dict[str, Any] = dict(
        in_channels=stock.patch_embed.projection.in_channels,
        embed_dims=stock.num_features[0],
        patch_size=stock.patch_embed.projection.kernel_size[0],
        window_size=first.attn.window_size,
        mlp_ratio=first.ffn.feedforward_channels / stock.num_features[0],
        depths=[len(stage.blocks) for stage in stock.stages],
        num_heads=[stage.blocks[0].attn.w_msa.num_heads for stage in stock.stages],
        strides=strides,
        out_indices=tuple(stock.out_indices),
        qkv_bias=attention.qkv.bias is not None,
        qk_scale=attention.scale if attention.scale != (attention.embed_dims // attention.num_heads) ** -0.5 else None,
        patch_norm=stock.patch_embed.norm is not None,
        drop_rate=stock.drop_after_pos.p,
        attn_drop_rate=attention.attn_drop.p,
        use_abs_pos_embed=has_positions,
        with_cp=first.with_cp,
        frozen_stages=stock.frozen_stages,
        convert_weights=getattr(stock, 'convert_weights', False),
        sparsity=sparsity,
    )
    if has_positions:
        side = int(stock.absolute_pos_embed.shape[1] ** 0.5)
        arguments['pretrain_img_size'] = side * arguments['patch_size']
    sparse = _build_empty(arguments | options)
    sparse.init_cfg = stock.init_cfg
    _take_over(sparse, stock)
    device = next(stock.parameters()).device
    for selector in (stage.selector for stage in sparse.stages):
        if any(True for _ in selector.parameters()):
            selector.to_empty(device=device)
            selector.init_weights()
    sparse._is_init = True
    for module in sparse.modules():
        module.training = stock.training
    if stock.training:
        sparse.train()  # frozen stages stay in evaluation mode
    return sparse


def _build_empty(arguments: dict[str, Any]) -> SparseSwin:
    """A backbone whose parameters hold nothing yet."""
    try:
        with torch.device('meta'):
            return SparseSwin(**arguments)
    except TypeError as error:
        raise ValueError(f'sparsify got an option that SparseSwin does not take: {error}.') from error


def _take_over(sparse: nn.Module, stock: nn.Module) -> None:
    """Puts the stock backbone's own layers, parameters and buffers at the same names of the sparse one."""
    names = {name for name, _ in sparse.named_modules()}
    for name, layer in stock.named_modules():
        parent, _, leaf = name.rpartition('.')
        if name in names and not list(layer.children()):
            setattr(sparse.get_submodule(parent), leaf, layer)
    for name, parameter in stock.named_parameters():
        parent, _, leaf = name.rpartition('.')
        sparse.get_submodule(parent)._parameters[leaf] = parameter
    for name, buffer in stock.named_buffers():
        parent, _, leaf = name.rpartition('.')
        sparse.get_submodule(parent)._buffers[leaf] = buffer
