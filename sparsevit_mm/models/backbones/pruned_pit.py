from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import ModuleList
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from ...compat import before_loading
from ...ops import as_numbers
from ...registry import MODELS
from ..checkpoints_pit import fit_pit_positions, load_pit_backbone
from ..layers import TokenSites, ViTBlock
from .arguments import check_options, image_size, init_cfg_of, out_stages
from .base import SparseBackbone
from .site_blocks import block_sites_of, layout_of, resolve_site_blocks
from .stage_log import StageLog

__all__ = ['PrunedPiT']


@dataclass(frozen=True)
class PiTArchitecture:
    """Sizes of a PiT.

    Args:
        head_dims: Channels of an attention head in each stage.
        num_heads: Heads in each stage.
        depths: Blocks of each stage.
        patch_size: Side of the overlapping patches in pixels.
        stride: Between them.
    """

    head_dims: tuple[int, ...]
    num_heads: tuple[int, ...]
    depths: tuple[int, ...] = (2, 6, 4)
    patch_size: int = 16
    stride: int = 8

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(dims * heads for dims, heads in zip(self.head_dims, self.num_heads))


# Table 2 of the PiT paper.
ARCHITECTURES = {
    'ti': PiTArchitecture((32,) * 3, (2, 4, 8)),
    'xs': PiTArchitecture((48,) * 3, (2, 4, 8)),
    's': PiTArchitecture((48,) * 3, (3, 6, 12)),
    'b': PiTArchitecture((64,) * 3, (4, 8, 16), (3, 6, 4), 14, 7),
}


class HeadPooling(nn.Module):
    """Pooling between stages: a depthwise convolution for the map, a linear layer for the class token.

    Args:
        in_channels: Of the stage before.
        out_channels: Of the stage that follows, a multiple of them.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, groups=in_channels)
        self.fc = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, prefix: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, C, H, W]`` and ``[B, P, C]`` at half the resolution."""
        return self.conv(x), self.fc(prefix)


@MODELS.register_module()
class PrunedPiT(SparseBackbone):
    """Pooling-based Vision Transformer (PiT, arXiv 2103.16302) that drops tokens on the way and gives whole maps.

    Three stages of plain attention over all tokens, with pooling between them, so that it has maps of several strides
    for necks such as FPN. Before each block of ``site_blocks`` a selector scores the tokens; those dropped go into a
    package token (SPViT, arXiv 2112.13890, prunes PiT so), see :class:`PrunedViT`. Before pooling, and in every output
    map, all tokens stand at their places; a stage starts with all of its tokens.

    At sparsity 0 it is PiT. Images whose size does not fit the patches are padded at the right and the bottom, where
    PiT leaves their borders out. Stochastic depth is on FFNs alone, as in the plain ViT of this package.

    Args:
        arch: ``'ti'``, ``'xs'``, ``'s'`` or ``'b'``, or a dict with ``head_dims``, ``num_heads``, ``depths``,
            ``patch_size`` and ``stride``.
        img_size: Side, or height and width, of the images that the position embeddings are for.
        in_channels: Channels of the image.
        mlp_ratio: Hidden channels of an FFN over its channels.
        num_prefix: Tokens before those of the image: 1, the class token; 2 for distilled models.
        out_indices: Stages that return a map.
        drop_rate: Dropout of embeddings, projections and FFNs.
        attn_drop_rate: Dropout of attention weights.
        drop_path_rate: Stochastic depth of the last block; earlier ones rise to it linearly.
        norm_cfg: Norm layers, those of the outputs too.
        act_cfg: Activation of the FFNs.
        interpolate_mode: How position embeddings are resized.
        frozen_stages: Stages, from the first, that do not learn; 0 freezes the embedding alone, -1 nothing.
        with_cp: Whether blocks recompute their activations in the backward pass to save memory.
        pretrained: Deprecated name of ``init_cfg=dict(type='Pretrained', checkpoint=...)``.
        init_cfg: How weights are initialised. Checkpoints of timm are known.
        site_blocks: Blocks with a site before them for stages by their index, counted from 0. By default one in the
            middle of a stage, and two in stages of six blocks or more.
        sparsity: Fraction of the tokens of its stage that is not computed from a site on, for all sites or one value
            each.
        selector: Config of the selectors, one a site.
        bypass: What dropped tokens do, as in :class:`PrunedViT`.
        reactivate: Whether a site may take up tokens again that an earlier one of its stage dropped.
        package: Whether a stage has one package or one a site. The released PiT of SPViT merges them.
        unfold: What a map shows of tokens in a package.
        counts: Whether selectors decide for each image how many of its tokens stay, as in :class:`PrunedViT`.
        chunk_rows: See :attr:`SparseBackbone.chunk_rows`.

    Raises:
        ValueError: If arguments contradict each other, or a site or the sparsity is not valid.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 's',
        img_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        mlp_ratio: float = 4,
        num_prefix: int = 1,
        out_indices: int | Sequence[int] = (0, 1, 2),
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_cfg: dict = dict(type='LN', eps=1e-6),
        act_cfg: dict = dict(type='GELU'),
        interpolate_mode: str = 'bicubic',
        frozen_stages: int = -1,
        with_cp: bool = False,
        pretrained: str | None = None,
        init_cfg: dict | None = None,
        site_blocks: Mapping[int, Sequence[int]] | None = None,
        sparsity: float | Sequence[float] = 0.0,
        selector: dict = dict(type='sparsevit_mm.MultiHeadSelector'),
        bypass: str = 'package',
        reactivate: bool = False,
        package: str = 'merged',
        unfold: str = 'residual',
        counts: str = 'fixed',
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg_of(init_cfg, pretrained))
        check_options('PrunedPiT', ('reuse', 'package'), bypass, package=package, unfold=unfold, counts=counts)
        if isinstance(num_prefix, bool) or num_prefix not in (1, 2):
            raise ValueError(f'num_prefix of PrunedPiT must be 1, or 2 for distilled models, got {num_prefix!r}.')
        self.arch = _architecture(arch)
        depths, channels = self.arch.depths, self.arch.channels
        self.out_indices = out_stages(out_indices, len(depths))
        if not -1 <= frozen_stages <= len(depths):
            raise ValueError(f'frozen_stages must be from -1 to {len(depths)}, got {frozen_stages}.')
        self.frozen_stages, self.interpolate_mode = frozen_stages, interpolate_mode
        self.bypass, self.reactivate, self.counts, self.num_prefix = bypass, reactivate, counts, num_prefix
        blocks = dict(enumerate(_middle(depth) for depth in depths)) if site_blocks is None else site_blocks
        self.site_blocks = resolve_site_blocks(depths, blocks, 0)
        self.sparsity_layout = layout_of(self.site_blocks)
        self.block_sites = block_sites_of(self.site_blocks, depths)

        patch, stride = self.arch.patch_size, self.arch.stride
        self.patch_embed = nn.ModuleDict(dict(conv=nn.Conv2d(in_channels, channels[0], patch, stride=stride)))
        self.pos_grid = tuple(-(-(size - patch) // stride) + 1 for size in image_size(img_size, 'img_size'))
        self.pos_embed = nn.Parameter(torch.zeros(1, channels[0], *self.pos_grid))
        self.cls_token = nn.Parameter(torch.zeros(1, num_prefix, channels[0]))
        self.drop_after_pos = nn.Dropout(drop_rate)
        rates = iter(torch.linspace(0, drop_path_rate, sum(depths), device='cpu').tolist())
        self.stages, self.pools, self.site_selectors = ModuleList(), ModuleList(), ModuleList()
        for depth, dims, heads, sites in zip(depths, channels, self.arch.num_heads, self.site_blocks):
            own = [
                ViTBlock(
                    dims,
                    heads,
                    int(mlp_ratio * dims),
                    drop_rate=drop_rate,
                    attn_drop_rate=attn_drop_rate,
                    drop_path_rate=next(rates),
                    num_fcs=2,
                    qkv_bias=True,
                    act_cfg=act_cfg,
                    norm_cfg=norm_cfg,
                    layer_scale_init_value=0.0,
                    with_cp=with_cp,
                )
                for _ in range(depth)
            ]
            self.stages.append(ModuleList(own))
            packing = package if bypass == 'package' else None
            self.site_selectors.append(
                TokenSites(
                    selector, dims, heads, sites, num_prefix, reactivate, packing, unfold, adaptive=counts == 'adaptive'
                )
            )
        for before, after in pairwise(channels):
            self.pools.append(HeadPooling(before, after))
        for i in self.out_indices:
            self.add_module(f'norm{i}', build_norm_layer(norm_cfg, channels[i])[1])
        before_loading(self, fit_pit_positions)
        self._freeze_stages()
        self.sparsity = sparsity
        self.chunk_rows = chunk_rows

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of the stages asked for.

        Args:
            x: ``[B, 3, H, W]`` images.

        Returns:
            ``[B, C_i, H_i, W_i]`` for each of ``out_indices``.
        """
        self.forget_last_pass()
        x = self._embed(x)
        prefix = self.cls_token.expand(x.shape[0], -1, -1)
        outs = []
        for i, (stage, sites) in enumerate(zip(self.stages, self.site_selectors)):
            tokens, hw_shape = torch.cat([prefix, x.flatten(2).transpose(1, 2)], dim=1), tuple(x.shape[2:])
            last = len(stage) - 1
            log = StageLog(self, self.of_blocks(i)[1])
            (state,) = sites.run(tokens, stage, self.stage_sparsity(i), (last,), hw_shape, log)
            prefix, tokens = state.tokens[:, : self.num_prefix], state.tokens[:, self.num_prefix :]
            if i in self.out_indices:
                if self.training and (computed := state.computed(tokens.shape[1])) is not None:
                    self.computed_positions[len(outs)] = computed.unflatten(1, hw_shape)
                outs.append(_as_map(getattr(self, f'norm{i}')(tokens), hw_shape).contiguous())
            if i < len(self.pools):
                x, prefix = self.pools[i](_as_map(tokens, hw_shape), prefix)
        return tuple(outs)

    def _embed(self, x: Tensor) -> Tensor:
        """``[B, C, H', W']`` overlapping patches with their positions."""
        patch, stride = self.arch.patch_size, self.arch.stride
        # As numbers: with variables compilers need minutes, and most sizes are cases of their own anyway.
        missing = [max(patch - size, (patch - size) % stride) for size in as_numbers(x.shape[2:])]
        if any(missing):
            x = F.pad(x, (0, missing[1], 0, missing[0]))
        x = self.patch_embed['conv'](x)
        positions = self.pos_embed
        if x.shape[2:] != positions.shape[2:]:
            size = tuple(x.shape[2:])
            positions = F.interpolate(positions, size=size, mode=self.interpolate_mode, align_corners=False)
        return self.drop_after_pos(x + positions)

    def stage_sparsity(self, stage: int) -> tuple[float, ...]:
        """The values of the sites of a stage."""
        before = sum(len(sites) for sites in self.site_blocks[:stage])
        return self._sparsity[before : before + len(self.site_blocks[stage])]

    def train(self, mode: bool = True) -> 'PrunedPiT':
        """Sets the training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        self._freeze_stages()
        return self

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen: list[nn.Module] = [self.patch_embed, self.drop_after_pos]
        for i in range(self.frozen_stages):
            frozen += [self.stages[i], self.site_selectors[i], *self.pools[i : i + 1]]
        for module in frozen:
            module.eval()
            module.requires_grad_(False)
        self.pos_embed.requires_grad_(False)
        self.cls_token.requires_grad_(False)

    def init_weights(self) -> None:
        """Weights from ``init_cfg``, or normal ones with a standard deviation of 0.02."""
        pretrained = isinstance(self.init_cfg, Mapping) and self.init_cfg.get('type') == 'Pretrained'
        if self.init_cfg and not pretrained:
            super().init_weights()
            return
        if not pretrained:
            trunc_normal_(self.pos_embed, std=0.02)
            trunc_normal_(self.cls_token, std=0.02)
            for module in self.modules():
                if isinstance(module, nn.Conv2d | nn.Linear):
                    trunc_normal_(module.weight, std=0.02)
                    nn.init.zeros_(module.bias)
                elif isinstance(module, nn.LayerNorm):
                    module.reset_parameters()
        self.init_grown_parts()
        if pretrained:
            load_pit_backbone(self, self.init_cfg['checkpoint'], prefix=self.init_cfg.get('prefix'))


def _as_map(tokens: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """``[B, L, C] -> [B, C, H, W]``."""
    return tokens.transpose(1, 2).unflatten(2, hw_shape)


def _middle(depth: int) -> tuple[int, ...]:
    """Blocks in the middle of a stage, as :class:`PrunedPiT` says."""
    return (depth // 3, 2 * depth // 3) if depth >= 6 else (depth // 2,)


def _architecture(arch: str | Mapping[str, Any]) -> PiTArchitecture:
    if isinstance(arch, Mapping):
        try:
            made = PiTArchitecture(**{k: tuple(v) if isinstance(v, Sequence) else v for k, v in arch.items()})
        except TypeError as error:
            raise ValueError(f'arch of PrunedPiT cannot be {dict(arch)}: {error}.') from error
        if not made.depths or not len(made.depths) == len(made.num_heads) == len(made.head_dims):
            raise ValueError(f'arch must have one depth, one num_heads and one head_dims for each stage: {dict(arch)}.')
        if any(after % before for before, after in pairwise(made.channels)):
            raise ValueError(f'channels of arch must each be a multiple of those before, for pooling: {made.channels}.')
        return made
    if arch not in ARCHITECTURES:
        raise ValueError(f'arch must be one of {", ".join(ARCHITECTURES)}, or a dict of sizes; got {arch!r}.')
    return ARCHITECTURES[arch]
