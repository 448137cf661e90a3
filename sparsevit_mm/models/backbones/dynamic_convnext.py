from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from mmengine.model import ModuleList
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from ...ops import channels_last
from ...registry import MODELS
from ..checkpoints_convnext import load_convnext_backbone
from ..layers import ConvNeXtBlock, PathSelectors, TwoPathConvNeXtBlock, TwoPathConvNeXtStage, build_norm2d
from .arguments import out_stages
from .base import SparseBackbone
from .site_blocks import block_sites_of, layout_of, resolve_site_blocks
from .stage_log import StageLog

__all__ = ['DynamicConvNeXt']

# Depths of the stages and channels of the first one; each later one has twice as many.
ARCHITECTURES = {
    'atto': ((2, 2, 6, 2), 40),
    'femto': ((2, 2, 6, 2), 48),
    'pico': ((2, 2, 6, 2), 64),
    'nano': ((2, 2, 8, 2), 80),
    'tiny': ((3, 3, 9, 3), 96),
    'small': ((3, 3, 27, 3), 96),
    'base': ((3, 3, 27, 3), 128),
    'large': ((3, 3, 27, 3), 192),
    'xlarge': ((3, 3, 27, 3), 256),
    'huge': ((3, 3, 27, 3), 352),
}


@MODELS.register_module()
class DynamicConvNeXt(SparseBackbone):
    """ConvNeXt with fast and slow paths (dynamic spatial sparsification, arXiv 2207.01580).

    From a site on each position either goes through the MLP (slow path) or through one linear layer (fast path); the
    depthwise convolution sees all of them, so the map keeps its structure. Each site decides for all positions anew.
    At sparsity 0 it is the ``ConvNeXt`` of mmpretrain, whose state-dict keys it has beside those of selectors and fast
    paths; mmpretrain is not needed. Two defaults are those of detectors and segmentors: every stage is returned, as a
    map.

    Sites are named ``stage3.block1`` and so on: the stage counted from 1, and the block as in ``site_blocks``.

    Args:
        arch: Name of the architecture, or a dict with ``depths`` and ``channels`` of the stages.
        in_channels: Channels of the image.
        stem_patch_size: Side of a patch in pixels.
        norm_cfg: Norm layers, of type ``LN2d``; the class is our own.
        act_cfg: Activation of the MLPs.
        linear_pw_conv: Whether the MLPs are of linear layers, not of convolutions.
        use_grn: Whether the MLPs have a global response normalization, as in ConvNeXt V2. On the slow path it sees
            the tokens of this path.
        drop_path_rate: Stochastic depth of the last block; earlier ones rise to it linearly.
        layer_scale_init_value: Where the scales of MLPs and fast paths start; 0 for no scales.
        out_indices: Stages to return, or one; negative ones count from the last.
        frozen_stages: Number of stages without gradients, in evaluation mode.
        gap_before_final_norm: Whether outputs are averaged over their map, ``[B, C]``, as for classification.
        with_cp: Whether blocks recompute their activations in the backward pass to save memory.
        init_cfg: How weights are initialised; with ``type='Pretrained'`` from a backbone or a whole model.
        site_blocks: Blocks of stage ``site_stage``, counted from 0, that have a site before them, or a mapping of
            stages to such blocks; ``None`` for the published ones.
        site_stage: Stage that ``site_blocks`` is about, counted from 0.
        sparsity: Fraction of the positions on the fast path, for all sites or one value each. The published models
            keep :math:`\\rho`, :math:`\\rho - 0.2` and :math:`\\rho - 0.4` on the slow one: (.3, .5, .7) is their
            :math:`\\rho = 0.7`.
        selector: Config of the selectors, of which each site has one.
        chunk_rows: See :attr:`SparseBackbone.chunk_rows`.

    Attributes:
        site_blocks: For each stage its blocks with a site before them.

    Raises:
        ValueError: If the architecture is unknown, or sites, sparsity or indices are not valid.
    """

    def __init__(
        self,
        arch: str | dict = 'tiny',
        in_channels: int = 3,
        stem_patch_size: int = 4,
        norm_cfg: dict = dict(type='LN2d', eps=1e-6),
        act_cfg: dict = dict(type='GELU'),
        linear_pw_conv: bool = True,
        use_grn: bool = False,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        out_indices: int | Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = 0,
        gap_before_final_norm: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
        site_blocks: Sequence[int] | Mapping[int, Sequence[int]] | None = None,
        site_stage: int = 2,
        sparsity: float | Sequence[float] = 0.0,
        selector: dict = dict(type='sparsevit_mm.PredictorSelector'),
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.depths, self.channels = _architecture(arch)
        self.num_stages = len(self.depths)
        self.out_indices = out_stages(out_indices, self.num_stages)
        if not -1 <= frozen_stages <= self.num_stages:
            raise ValueError(f'frozen_stages must be from 0 to {self.num_stages}, got {frozen_stages}.')
        if not 0 <= drop_path_rate <= 1:
            raise ValueError(f'drop_path_rate is a probability from 0 to 1, got {drop_path_rate}.')
        self.frozen_stages = frozen_stages
        self.gap_before_final_norm = gap_before_final_norm
        self.site_blocks = resolve_site_blocks(self.depths, site_blocks, site_stage)
        self.sparsity_layout = layout_of(self.site_blocks)
        self.block_sites = block_sites_of(self.site_blocks, self.depths)

        stem = nn.Conv2d(in_channels, self.channels[0], stem_patch_size, stride=stem_patch_size)
        self.downsample_layers = ModuleList([nn.Sequential(stem, build_norm2d(norm_cfg, self.channels[0]))])
        for before, after in pairwise(self.channels):
            halving = nn.Conv2d(before, after, kernel_size=2, stride=2)
            self.downsample_layers.append(nn.Sequential(build_norm2d(norm_cfg, before), halving))
        block_arguments = dict(
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            linear_pw_conv=linear_pw_conv,
            layer_scale_init_value=layer_scale_init_value,
            use_grn=use_grn,
            with_cp=with_cp,
        )
        rates = torch.linspace(0, drop_path_rate, sum(self.depths), device='cpu').tolist()
        self.stages = ModuleList()
        self.site_selectors = ModuleList()
        for depth, dims, sites in zip(self.depths, self.channels, self.site_blocks):
            own, rates = rates[:depth], rates[depth:]
            self.stages.append(_stage(dims, own, sites, block_arguments))
            self.site_selectors.append(PathSelectors(selector, dims, sites))
        for i in self.out_indices:
            self.add_module(f'norm{i}', build_norm2d(norm_cfg, self.channels[i]))
        self._freeze_stages()
        self.sparsity = sparsity
        self.chunk_rows = chunk_rows

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of the stages asked for.

        Args:
            x: ``[B, 3, H, W]`` images.

        Returns:
            ``[B, C_i, H_i, W_i]`` for each of ``out_indices``, or ``[B, C_i]`` if averaged.
        """
        self.forget_last_pass()
        x, outs = channels_last(x), []
        for i, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages)):
            sparsity, sites = self.of_blocks(i)
            x = stage(downsample(x), sparsity, self.site_selectors[i], StageLog(self, sites))
            if i in self.out_indices:
                norm = getattr(self, f'norm{i}')
                if self.gap_before_final_norm:
                    outs.append(norm(x.mean([-2, -1], keepdim=True)).flatten(1))
                else:
                    outs.append(norm(x).contiguous())
        return tuple(outs)

    def train(self, mode: bool = True) -> 'DynamicConvNeXt':
        """Sets the training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        self._freeze_stages()
        return self

    def _freeze_stages(self) -> None:
        for i in range(max(self.frozen_stages, 0)):
            for module in (self.downsample_layers[i], self.stages[i], self.site_selectors[i]):
                module.eval()
                module.requires_grad_(False)

    def init_weights(self) -> None:
        """Weights from ``init_cfg``, or ConvNeXt's own initialisation where there is none."""
        pretrained = isinstance(self.init_cfg, Mapping) and self.init_cfg.get('type') == 'Pretrained'
        if self.init_cfg and not pretrained:
            super().init_weights()
            return
        if not pretrained:
            for module in self.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    trunc_normal_(module.weight, std=0.02)
                    nn.init.zeros_(module.bias)
                elif isinstance(module, nn.LayerNorm):
                    module.reset_parameters()
        self.init_grown_parts()
        if pretrained:
            load_convnext_backbone(self, self.init_cfg['checkpoint'], prefix=self.init_cfg.get('prefix'))


def _stage(dims: int, rates: Sequence[float], sites: Sequence[int], arguments: dict[str, Any]) -> TwoPathConvNeXtStage:
    first = sites[0] if sites else len(rates)
    blocks = [ConvNeXtBlock(dims, drop_path_rate=rate, **arguments) for rate in rates[:first]]
    blocks += [TwoPathConvNeXtBlock(dims, drop_path_rate=rate, **arguments) for rate in rates[first:]]
    return TwoPathConvNeXtStage(blocks)


def _architecture(arch: str | Mapping[str, Sequence[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Depths and channels of the stages."""
    if isinstance(arch, Mapping):
        if {'depths', 'channels'} - set(arch):
            raise ValueError(f'arch must have depths and channels if it is a dict, got {dict(arch)}.')
        depths, channels = tuple(arch['depths']), tuple(arch['channels'])
        if not depths or len(depths) != len(channels) or min(*depths, *channels) < 1:
            raise ValueError(
                f'arch must have one depth and one number of channels for each stage, all from 1 on; got depths '
                f'{depths} and channels {channels}.'
            )
        return depths, channels
    if arch not in ARCHITECTURES:
        raise ValueError(
            f'arch must be one of {", ".join(ARCHITECTURES)}, or a dict with depths and channels; got {arch!r}.'
        )
    depths, first = ARCHITECTURES[arch]
    return depths, tuple(first * 2**i for i in range(len(depths)))
