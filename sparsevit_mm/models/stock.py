"""What stock backbones were built with, read from the built modules."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ['FAMILIES', 'StockFamily', 'family_of']


@dataclass(frozen=True)
class StockFamily:
    """Stock backbones that have sparse forms.

    Args:
        name: Name of their class.
        packages: Packages that have a class of that name with the same parameters.
        forms: Names of our backbones, the default one first.
        arguments: Reads the arguments to build a sparse form with.
    """

    name: str
    packages: tuple[str, ...]
    forms: tuple[str, ...]
    arguments: Callable[[nn.Module], dict[str, Any]]

    def __str__(self) -> str:
        return f'{self.name} of {" or ".join(self.packages)} -> {" or ".join(self.forms)}'

    def has(self, module: nn.Module) -> bool:
        """Whether a module is one of them, or derives from one."""
        return any(
            cls.__name__ == self.name and cls.__module__.split('.')[0] in self.packages for cls in type(module).__mro__
        )


def family_of(module: nn.Module) -> StockFamily | None:
    """The family that a module belongs to."""
    return next((family for family in FAMILIES if family.has(module)), None)


def _swin_arguments(stock: nn.Module) -> dict[str, Any]:
    first = stock.stages[0].blocks[0]
    attention = first.attn.w_msa
    has_positions = getattr(stock, 'use_abs_pos_embed', False)
    strides = [stock.patch_embed.projection.stride[0]]
    strides += [stage.downsample.sampler.stride[0] for stage in stock.stages if stage.downsample is not None]
    patch_size = stock.patch_embed.projection.kernel_size[0]
    arguments: dict[str, Any] = dict(
        in_channels=stock.patch_embed.projection.in_channels,
        embed_dims=stock.num_features[0],
        patch_size=patch_size,
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
    )
    if has_positions:
        side = int(stock.absolute_pos_embed.shape[1] ** 0.5)
        arguments['pretrain_img_size'] = side * patch_size
    return arguments


def _vit_arguments(stock: nn.Module) -> dict[str, Any]:
    first, projection = stock.layers[0], stock.patch_embed.projection
    padding = getattr(stock.patch_embed, 'adap_padding', None) or getattr(stock.patch_embed, 'adaptive_padding', None)
    dims = projection.out_channels
    return dict(
        img_size=tuple(stock.img_size),
        patch_size=stock.patch_size,
        patch_pad=projection.padding[0] if padding is None else padding.padding,
        in_channels=projection.in_channels,
        embed_dims=dims,
        num_layers=len(stock.layers),
        num_heads=first.attn.num_heads,
        mlp_ratio=first.ffn.feedforward_channels / dims,
        out_origin=stock.out_origin,
        out_indices=tuple(stock.out_indices),
        qkv_bias=first.attn.attn.in_proj_bias is not None,
        drop_rate=stock.drop_after_pos.p,
        attn_drop_rate=first.attn.attn.dropout,
        with_cls_token=stock.with_cls_token,
        output_cls_token=stock.output_cls_token,
        patch_norm=stock.patch_embed.norm is not None,
        patch_bias=projection.bias is not None,
        pre_norm=stock.pre_norm,
        final_norm=stock.final_norm,
        interpolate_mode=stock.interpolate_mode,
        num_fcs=first.ffn.num_fcs,
        norm_eval=stock.norm_eval,
        with_cp=first.with_cp,
        frozen_exclude=tuple(stock.frozen_exclude),
    )


def _convnext_arguments(stock: nn.Module) -> dict[str, Any]:
    stem, first = stock.downsample_layers[0][0], stock.stages[0][0]
    return dict(
        arch=dict(depths=[len(stage) for stage in stock.stages], channels=list(stock.channels)),
        in_channels=stem.in_channels,
        stem_patch_size=stem.kernel_size[0],
        norm_cfg=dict(type='LN2d', eps=first.norm.eps),
        linear_pw_conv=isinstance(first.pointwise_conv1, nn.Linear),
        use_grn=getattr(first, 'grn', None) is not None,
        # Any value above 0 makes the scales, which are taken over; fast paths start at the published one.
        layer_scale_init_value=1e-6 if first.gamma is not None else 0.0,
        out_indices=tuple(stock.out_indices),
        frozen_stages=stock.frozen_stages,
        gap_before_final_norm=stock.gap_before_final_norm,
        with_cp=first.with_cp,
    )


FAMILIES = (
    StockFamily('SwinTransformer', ('mmdet', 'mmseg'), ('SparseSwin', 'DynamicSwin'), _swin_arguments),
    StockFamily('VisionTransformer', ('mmseg',), ('PrunedViT',), _vit_arguments),
    StockFamily('ConvNeXt', ('mmpretrain',), ('DynamicConvNeXt',), _convnext_arguments),
)
