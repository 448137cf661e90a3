from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.model import ModuleList
from mmengine.model.weight_init import constant_init, trunc_normal_, trunc_normal_init
from torch import Tensor, nn

from ...compat import before_loading
from ...ops import as_numbers, channels_last
from ..checkpoints import fit_swin_tables, load_swin_backbone
from ..layers import FoldPatchMerging, WindowAttention, norm_to_map
from .arguments import image_size, init_cfg_of
from .base import SparseBackbone
from .stage_log import StageLog

__all__ = ['StageBuilder', 'SwinBody']


class StageBuilder(Protocol):
    """Makes the stages of a Swin: what one family of backbones does otherwise than another."""

    def __call__(self, stage: int, blocks: Sequence[dict[str, Any]], merging: nn.Module | None) -> nn.Module:
        """A stage.

        Args:
            stage: Its index.
            blocks: Arguments of ``WindowBlock``, for each of its blocks.
            merging: Patch merging behind it, ``None`` for the last one.

        Returns:
            A module that is called as ``SwinStage`` is, and has ``downsample``.
        """


class SwinBody(SparseBackbone):
    """All of a Swin Transformer but its stages: what its sparse forms share.

    Takes every argument of the ``SwinTransformer`` of mmdet and mmseg and has their state-dict keys. Those who
    derive from it set ``sparsity_layout``, ``block_sites`` and ``sparsity``.

    Args:
        build_stage: Makes the stages.
        pretrain_img_size: Side, or height and width, of the images that absolute position embeddings are for.
        in_channels: Channels of the image.
        embed_dims: Channels of the first stage; each later one has twice as many.
        patch_size: Side of a patch in pixels.
        window_size: Side of a window in tokens.
        mlp_ratio: Hidden channels of the FFN over its channels.
        depths: Blocks of each stage.
        num_heads: Attention heads of each stage.
        strides: Stride of the patch embedding, then of each patch merging.
        out_indices: Stages to return.
        qkv_bias: Whether queries, keys and values have a bias.
        qk_scale: Factor of the attention scores instead of ``head_dims ** -0.5``.
        patch_norm: Whether patch embedding and merging have a norm.
        drop_rate: Dropout of embeddings, projections and FFNs.
        attn_drop_rate: Dropout of attention weights.
        drop_path_rate: Stochastic depth of the last block; earlier ones rise to it linearly.
        use_abs_pos_embed: Whether absolute position embeddings are added.
        act_cfg: Activation of the FFNs.
        norm_cfg: Norm layers.
        with_cp: Whether blocks recompute their activations in the backward pass to save memory.
        pretrained: Deprecated name of ``init_cfg=dict(type='Pretrained', checkpoint=...)``.
        convert_weights: Whether the checkpoint has the key names of the official Swin repository. Such a checkpoint
            is recognised without it too.
        frozen_stages: Stages without gradients, in evaluation mode; -1 for none, 0 for the patch embedding.
        init_cfg: How weights are initialised.
        chunk_rows: See :attr:`SparseBackbone.chunk_rows`.

    Raises:
        ValueError: If arguments contradict each other.
    """

    def __init__(
        self,
        build_stage: StageBuilder,
        pretrain_img_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        embed_dims: int = 96,
        patch_size: int = 4,
        window_size: int = 7,
        mlp_ratio: float = 4,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        strides: Sequence[int] = (4, 2, 2, 2),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        patch_norm: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        use_abs_pos_embed: bool = False,
        act_cfg: dict = dict(type='GELU'),
        norm_cfg: dict = dict(type='LN'),
        with_cp: bool = False,
        pretrained: str | None = None,
        convert_weights: bool = False,
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg_of(init_cfg, pretrained))
        rates = dict(drop_rate=drop_rate, attn_drop_rate=attn_drop_rate, drop_path_rate=drop_path_rate)
        _check_arguments(
            embed_dims, patch_size, window_size, depths, num_heads, strides, out_indices, frozen_stages, rates
        )
        self.convert_weights = convert_weights
        self.frozen_stages = frozen_stages
        self.out_indices = tuple(out_indices)
        self.depths = tuple(depths)
        self.window_size = window_size

        self.patch_embed = PatchEmbed(
            in_channels=in_channels,
            embed_dims=embed_dims,
            kernel_size=patch_size,
            stride=strides[0],
            norm_cfg=norm_cfg if patch_norm else None,
        )
        self.use_abs_pos_embed = use_abs_pos_embed
        self.pretrain_grid = tuple(size // patch_size for size in image_size(pretrain_img_size, 'pretrain_img_size'))
        if use_abs_pos_embed:
            places = self.pretrain_grid[0] * self.pretrain_grid[1]
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, places, embed_dims))
        self.drop_after_pos = nn.Dropout(drop_rate)

        self.num_features = [embed_dims * 2**i for i in range(len(depths))]
        drop_path_rates = torch.linspace(0, drop_path_rate, sum(depths), device='cpu').tolist()
        shared = dict(
            window_size=window_size,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate,
            act_cfg=act_cfg,
            norm_cfg=norm_cfg,
            with_cp=with_cp,
        )
        self.stages = ModuleList()
        for i, (depth, dims, heads) in enumerate(zip(self.depths, self.num_features, num_heads)):
            rates, drop_path_rates = drop_path_rates[:depth], drop_path_rates[depth:]
            sizes = dict(embed_dims=dims, num_heads=heads, feedforward_channels=int(mlp_ratio * dims))
            blocks = [shared | sizes | dict(shift=j % 2 == 1, drop_path_rate=rate) for j, rate in enumerate(rates)]
            merging = None
            if i + 1 < len(self.depths):
                merging = FoldPatchMerging(
                    dims, 2 * dims, stride=strides[i + 1], norm_cfg=norm_cfg if patch_norm else None
                )
            self.stages.append(build_stage(i, blocks, merging))
        for i in self.out_indices:
            self.add_module(f'norm{i}', build_norm_layer(norm_cfg, self.num_features[i])[1])
        before_loading(self, fit_swin_tables)
        self.chunk_rows = chunk_rows

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of the stages asked for.

        Args:
            x: ``[B, 3, H, W]`` images.

        Returns:
            ``[B, C_i, H_i, W_i]`` for each of ``out_indices``.
        """
        self.forget_last_pass()
        as_numbers(x.shape[2:])  # tables of windows are of one size, and so is what a compiler makes
        x, hw_shape = self.patch_embed(channels_last(x))
        if self.use_abs_pos_embed:
            x = x + self._position_embedding(hw_shape)
        x = self.drop_after_pos(x)
        outs = []
        for i, stage in enumerate(self.stages):
            sparsity, sites = self.of_blocks(i)
            x = stage(x, hw_shape, sparsity, StageLog(self, sites))
            if i in self.out_indices:
                outs.append(norm_to_map(x, getattr(self, f'norm{i}'), hw_shape))
            if stage.downsample is not None:
                x, hw_shape = stage.downsample(x, hw_shape)
        return tuple(outs)

    def _position_embedding(self, hw_shape: tuple[int, int]) -> Tensor:
        """Absolute position embeddings ``[1, L, C]``, resized where the map is not the pretraining one."""
        if tuple(hw_shape) == self.pretrain_grid:
            return self.absolute_pos_embed
        # [1, L, C] -> [1, C, H, W] -> resized -> [1, L', C]
        grid = self.absolute_pos_embed.unflatten(1, self.pretrain_grid).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=tuple(hw_shape), mode='bicubic', align_corners=False)
        return grid.flatten(2).transpose(1, 2)

    def train(self, mode: bool = True) -> 'SwinBody':
        """Sets the training mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        self._freeze_stages()
        return self

    def _freeze_stages(self) -> None:
        frozen: list[nn.Module] = []
        if self.frozen_stages >= 0:
            frozen += [self.patch_embed, self.drop_after_pos]
            if self.use_abs_pos_embed:
                self.absolute_pos_embed.requires_grad_(False)
        for i in range(max(self.frozen_stages, 0)):
            frozen.append(self.stages[i])
            if i in self.out_indices:
                frozen.append(getattr(self, f'norm{i}'))
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def init_weights(self) -> None:
        """Weights from ``init_cfg``, or Swin's own initialisation where there is none."""
        if self.init_cfg is None:
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    trunc_normal_init(module, std=0.02, bias=0.0)
                elif isinstance(module, nn.LayerNorm):
                    constant_init(module, val=1.0, bias=0.0)
                elif isinstance(module, WindowAttention):
                    trunc_normal_(module.relative_position_bias_table, std=0.02)
            if self.use_abs_pos_embed:
                trunc_normal_(self.absolute_pos_embed, std=0.02)
            self.init_grown_parts()
        elif self.init_cfg.get('type') == 'Pretrained':
            self.init_grown_parts()
            load_swin_backbone(
                self, self.init_cfg['checkpoint'], prefix=self.init_cfg.get('prefix'), convert=self.convert_weights
            )
        else:
            super().init_weights()


def _check_arguments(
    embed_dims: int,
    patch_size: int,
    window_size: int,
    depths: Sequence[int],
    num_heads: Sequence[int],
    strides: Sequence[int],
    out_indices: Sequence[int],
    frozen_stages: int,
    rates: dict[str, float],
) -> None:
    stages = len(depths)
    if not stages or any(int(depth) < 1 for depth in depths):
        raise ValueError(f'depths must give at least one block for each stage, got {tuple(depths)}.')
    for name, value in (('num_heads', num_heads), ('strides', strides)):
        if len(value) != stages:
            raise ValueError(
                f'{name} {tuple(value)} has {len(value)} values but depths {tuple(depths)} has {stages} stages; '
                f'give one value a stage.'
            )
    for i, heads in enumerate(num_heads):
        if heads < 1 or (embed_dims * 2**i) % heads:
            raise ValueError(f'num_heads[{i}]={heads} must divide the {embed_dims * 2**i} channels of stage {i + 1}.')
    for name, value in rates.items():
        if not 0 <= value <= 1:
            raise ValueError(f'{name} is a probability from 0 to 1, got {value}.')
    if strides[0] != patch_size:
        raise ValueError(f'strides[0]={strides[0]} must equal patch_size={patch_size}: patches do not overlap.')
    if not isinstance(window_size, int) or window_size < 1:
        raise ValueError(f'window_size must be an int from 1 on, the side of a window in tokens, got {window_size!r}.')
    if any(not 0 <= i < stages for i in out_indices) or len(set(out_indices)) != len(out_indices):
        raise ValueError(f'out_indices must be distinct stages from 0 to {stages - 1}, got {tuple(out_indices)}.')
    if not -1 <= frozen_stages <= stages:
        raise ValueError(f'frozen_stages must be from -1 to {stages}, got {frozen_stages}.')
