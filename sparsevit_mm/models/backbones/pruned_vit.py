from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.model import ModuleList
from mmengine.model.weight_init import constant_init, kaiming_init, trunc_normal_
from torch import Tensor, nn

from ...compat import before_loading
from ...ops import channels_last
from ...registry import MODELS
from ...sparsity import SparsityLayout
from ..checkpoints_vit import fit_vit_positions, load_vit_backbone
from ..layers import TokenAttention, TokenSites, ViTBlock
from .arguments import check_options, image_size, init_cfg_of
from .base import SparseBackbone
from .site_blocks import block_sites_of, checked_site_blocks
from .stage_log import StageLog

__all__ = ['PrunedViT']


@MODELS.register_module()
class PrunedViT(SparseBackbone):
    """Plain Vision Transformer that drops tokens on the way (DynamicViT, arXiv 2106.02034) and still gives whole maps.

    Takes every argument of mmseg's ``VisionTransformer`` and has its state-dict keys. At sparsity 0 it is that
    backbone. Before each block of ``site_blocks`` a selector scores the tokens; the best stay, the others keep the
    features they have and stand at their places in every output map. The class token is never dropped.

    With ``bypass='package'`` what a site drops goes on as a package token, the mean of it weighted by the scores, which
    later blocks attend to (SPViT, arXiv 2112.13890). In a map a dropped token then is its own last features plus what
    its package has learned since; the paper is silent about maps, so that is our choice.

    A selector that learns is trained with all tokens: those dropped are masked out of attention and keep their
    features, so that the decisions get a gradient. In evaluation, and with selectors that do not learn, only the
    tokens that stay are computed. Both give the same maps for the same decisions.

    Departure from DynamicViT, which classifies and forgets what it dropped: here dropped tokens are outputs too.

    Args:
        img_size: Side, or height and width, of the images that the position embeddings are for.
        patch_size: Side of a patch in pixels.
        patch_pad: ``'corner'`` or ``'same'`` pads images to whole patches; an int pads as a convolution does; with
            ``None`` sizes must be multiples of the patch.
        in_channels: Channels of the image.
        embed_dims: Channels of the tokens.
        num_layers: Blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the FFN over its channels.
        out_origin: Whether the embedded image is returned too, as the first map.
        out_indices: Blocks after which to return a map, -1 for the last.
        qkv_bias: Whether queries, keys, values and the output projection have a bias.
        drop_rate: Dropout of embeddings, projections and FFNs.
        attn_drop_rate: Dropout of attention weights.
        drop_path_rate: Stochastic depth of the last block; earlier ones rise to it linearly.
        with_cls_token: Whether there is a class token among the tokens.
        output_cls_token: Whether to return ``[map, class token]`` instead of each map.
        norm_cfg: Norm layers.
        act_cfg: Activation of the FFNs.
        patch_norm: Whether the patch embedding has a norm.
        patch_bias: Whether the patch embedding has a bias; DeiT's and DINOv2's have.
        pre_norm: Whether there is a norm before the first block.
        final_norm: Whether there is a norm after the last block.
        interpolate_mode: How position embeddings are resized.
        num_fcs: Linear layers of an FFN.
        norm_eval: Whether norms stay in evaluation mode.
        with_cp: Whether blocks recompute their activations in the backward pass to save memory.
        frozen_exclude: Parts of names of the parameters that are not frozen; with ``'all'`` nothing is.
        pretrained: Deprecated name of ``init_cfg=dict(type='Pretrained', checkpoint=...)``.
        init_cfg: How weights are initialised. Checkpoints of mmseg, mmpretrain, timm (DeiT) and DINOv2 are known.
        site_blocks: Blocks, counted from 0, before which tokens are selected.
        sparsity: Fraction of the image's tokens that is not computed from a site on, for all sites or one value each.
            DynamicViT's keep ratio of 0.7 is ``(.3, .51, .657)``.
        selector: Config of the selectors, one a site.
        bypass: What dropped tokens do: with ``'reuse'`` they keep their last features, with ``'package'`` they go
            into a package token.
        reactivate: Whether a site may take up tokens again that an earlier one dropped (SViT, arXiv 2310.12873, found
            that dense tasks want it). Otherwise a site chooses from what the one before kept.
        layer_scale_init_value: Start of a factor a channel on the branches, as in DINOv2; 0 for none.
        package: ``'separate'`` makes a package token a site, as SPViT's ViT; ``'merged'`` puts later ones into the
            first, as its PiT. With ``reactivate`` each site packs all that it leaves out anew.
        unfold: What a map shows of tokens in a package: with ``'residual'`` their last features plus what the package
            has learned, with ``'reuse'`` the former only.
        counts: With ``'fixed'`` as many tokens of every image stay as the sparsity asks for. With ``'adaptive'`` the
            selectors decide for each image by itself: those tokens stay whose scores are above a cut. It needs a
            selector with ``draw='gumbel'`` or ``'batch'``, trained with a keep-ratio loss over the mean of the batch;
            the sparsity is then the target of training, and no more, but that sites at 0 are dense.
        chunk_rows: See :attr:`SparseBackbone.chunk_rows`.

    Raises:
        ValueError: If arguments contradict each other, or a site or the sparsity is not valid.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        patch_pad: str | int | None = 'corner',
        in_channels: int = 3,
        embed_dims: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4,
        out_origin: bool = False,
        out_indices: int | Sequence[int] = -1,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        with_cls_token: bool = True,
        output_cls_token: bool = False,
        norm_cfg: dict = dict(type='LN'),
        act_cfg: dict = dict(type='GELU'),
        patch_norm: bool = False,
        patch_bias: bool = False,
        pre_norm: bool = False,
        final_norm: bool = False,
        interpolate_mode: str = 'bicubic',
        num_fcs: int = 2,
        norm_eval: bool = False,
        with_cp: bool = False,
        frozen_exclude: Sequence[str] = ('all',),
        pretrained: str | None = None,
        init_cfg: dict | None = None,
        site_blocks: Sequence[int] = (3, 6, 9),
        sparsity: float | Sequence[float] = 0.0,
        selector: dict = dict(type='sparsevit_mm.PredictorSelector'),
        bypass: str = 'reuse',
        reactivate: bool = False,
        layer_scale_init_value: float = 0.0,
        package: str = 'separate',
        unfold: str = 'residual',
        counts: str = 'fixed',
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg_of(init_cfg, pretrained))
        self.out_indices = _out_blocks(out_indices, num_layers)
        self.site_blocks = checked_site_blocks(site_blocks, num_layers, f'num_layers={num_layers}')
        check_options('PrunedViT', ('reuse', 'package'), bypass, package=package, unfold=unfold, counts=counts)
        if num_heads < 1 or embed_dims % num_heads:
            raise ValueError(f'num_heads={num_heads} must divide embed_dims={embed_dims}.')
        if output_cls_token and not with_cls_token:
            raise ValueError('output_cls_token=True needs with_cls_token=True.')
        self.img_size = image_size(img_size, 'img_size')
        self.patch_size, self.patch_pad = patch_size, patch_pad
        self.with_cls_token, self.output_cls_token = with_cls_token, output_cls_token
        self.out_origin, self.interpolate_mode = out_origin, interpolate_mode
        self.norm_eval, self.frozen_exclude = norm_eval, tuple(frozen_exclude)
        self.bypass, self.reactivate, self.counts = bypass, reactivate, counts
        self.block_sites = block_sites_of((self.site_blocks,), (num_layers,))
        self.sparsity_layout = SparsityLayout(
            tuple(f'block{i}' for i in self.site_blocks), (len(self.site_blocks),) if self.site_blocks else ()
        )

        self.patch_embed = PatchEmbed(
            in_channels=in_channels,
            embed_dims=embed_dims,
            kernel_size=patch_size,
            stride=patch_size,
            padding=0 if patch_pad is None else patch_pad,
            bias=patch_bias,
            norm_cfg=norm_cfg if patch_norm else None,
        )
        self.pos_grid = tuple(size // patch_size for size in self.img_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dims))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.pos_grid[0] * self.pos_grid[1] + 1, embed_dims))
        self.drop_after_pos = nn.Dropout(drop_rate)
        self.pre_ln_name = self._add_norm(norm_cfg, embed_dims, '_pre') if pre_norm else None
        self.layers = ModuleList(
            ViTBlock(
                embed_dims,
                num_heads,
                int(mlp_ratio * embed_dims),
                drop_rate=drop_rate,
                attn_drop_rate=attn_drop_rate,
                drop_path_rate=rate,
                num_fcs=num_fcs,
                qkv_bias=qkv_bias,
                act_cfg=act_cfg,
                norm_cfg=norm_cfg,
                layer_scale_init_value=layer_scale_init_value,
                with_cp=with_cp,
            )
            for rate in torch.linspace(0, drop_path_rate, num_layers, device='cpu').tolist()
        )
        self.norm1_name = self._add_norm(norm_cfg, embed_dims, 1) if final_norm else None
        self.site_selectors = TokenSites(
            selector,
            embed_dims,
            num_heads,
            self.site_blocks,
            self.num_prefix,
            reactivate,
            package if bypass == 'package' else None,
            unfold,
            adaptive=counts == 'adaptive',
        )
        before_loading(self, fit_vit_positions)
        self._freeze()
        self.sparsity = sparsity
        self.chunk_rows = chunk_rows

    def _add_norm(self, norm_cfg: dict, dims: int, postfix: int | str) -> str:
        name, norm = build_norm_layer(norm_cfg, dims, postfix=postfix)
        self.add_module(name, norm)
        return name

    @property
    def num_prefix(self) -> int:
        """Tokens before those of the image: 1 with a class token, else 0."""
        return int(self.with_cls_token)

    def forward(self, x: Tensor) -> tuple[Tensor | list[Tensor], ...]:
        """Features after the blocks asked for.

        Args:
            x: ``[B, 3, H, W]`` images.

        Returns:
            ``[B, C, H', W']`` for each of ``out_indices``, after the embedded image if ``out_origin``; with
            ``output_cls_token`` each as a list with the class token ``[B, C]``.

        Raises:
            ValueError: If the image is no multiple of the patch and ``patch_pad`` is ``None``.
        """
        self.forget_last_pass()
        x, hw_shape = self._embed(x)
        outs = [self._output(x, hw_shape)] if self.out_origin else []
        log = StageLog(self, self.of_blocks(0)[1])
        states = self.site_selectors.run(x, self.layers, self._sparsity, self.out_indices, hw_shape, log)
        for state in states:
            if self.training and (computed := state.computed(hw_shape[0] * hw_shape[1])) is not None:
                self.computed_positions[len(outs)] = computed.unflatten(1, tuple(hw_shape))
            outs.append(self._output(self._final(state.block, state.tokens), hw_shape))
        return tuple(outs)

    def _embed(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens ``[B, 1 + L, C]`` with positions, and the size of their map."""
        height, width = x.shape[-2:]
        if self.patch_pad is None and (height % self.patch_size or width % self.patch_size):
            raise ValueError(
                f'the image has {height}x{width} pixels, but with patch_pad=None both sides must be multiples of '
                f"patch_size={self.patch_size}: resize or pad it, or use patch_pad='corner'."
            )
        x, hw_shape = self.patch_embed(channels_last(x))
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.drop_after_pos(x + self._positions(hw_shape))
        if not self.with_cls_token:
            x = x[:, 1:]
        if self.pre_ln_name is not None:
            x = getattr(self, self.pre_ln_name)(x)
        return x, hw_shape

    def _positions(self, hw_shape: tuple[int, int]) -> Tensor:
        """Position embeddings ``[1, 1 + L, C]``; as in mmseg resized where the number of tokens is another."""
        if hw_shape[0] * hw_shape[1] + 1 == self.pos_embed.shape[1]:
            return self.pos_embed
        cls, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        # [1, L, C] -> [1, C, H, W] -> resized -> [1, L', C]
        grid = grid.unflatten(1, self.pos_grid).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=tuple(hw_shape), mode=self.interpolate_mode, align_corners=False)
        return torch.cat([cls, grid.flatten(2).transpose(1, 2)], dim=1)

    def _final(self, block: int, x: Tensor) -> Tensor:
        last = block + 1 == len(self.layers)
        return getattr(self, self.norm1_name)(x) if last and self.norm1_name is not None else x

    def _output(self, x: Tensor, hw_shape: tuple[int, int]) -> Tensor | list[Tensor]:
        """``[B, 1 + L, C] -> [B, C, H, W]``, a copy: later blocks write into the tokens."""
        out = x[:, self.num_prefix :].transpose(1, 2).unflatten(2, tuple(hw_shape))
        out = out.clone(memory_format=torch.contiguous_format)
        return [out, x[:, 0].clone()] if self.output_cls_token else out

    def train(self, mode: bool = True) -> 'PrunedViT':
        """Sets the training mode; with ``norm_eval`` norms stay in evaluation mode."""
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.LayerNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        if 'all' in self.frozen_exclude:
            return
        for name, parameter in self.named_parameters():
            if not any(part in name for part in self.frozen_exclude):
                parameter.requires_grad_(False)

    def init_weights(self) -> None:
        """Weights from ``init_cfg``, or those of mmseg's ViT where there is none."""
        self.init_grown_parts()
        kind = None if self.init_cfg is None else self.init_cfg.get('type')
        if kind == 'Pretrained':
            load_vit_backbone(self, self.init_cfg['checkpoint'], prefix=self.init_cfg.get('prefix'))
        elif kind is not None:
            super().init_weights()
        else:
            self._init_plain()

    def _init_plain(self) -> None:
        trunc_normal_(self.pos_embed, std=0.02)
        trunc_normal_(self.cls_token, std=0.02)
        for name, module in self.named_modules():
            if name.startswith('site_selectors'):
                continue
            if isinstance(module, TokenAttention):
                nn.init.xavier_uniform_(module.attn.in_proj_weight)
                if module.attn.in_proj_bias is not None:
                    nn.init.zeros_(module.attn.in_proj_bias)
            elif isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.normal_(module.bias, std=1e-6) if 'ffn' in name else nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                kaiming_init(module, mode='fan_in', bias=0.0)
            elif isinstance(module, nn.LayerNorm):
                constant_init(module, val=1.0, bias=0.0)


def _out_blocks(out_indices: int | Sequence[int], num_layers: int) -> tuple[int, ...]:
    given = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    blocks = tuple(num_layers - 1 if i == -1 else i for i in given)
    if not blocks or any(not 0 <= i < num_layers for i in blocks) or len(set(blocks)) != len(blocks):
        raise ValueError(f'out_indices must be distinct blocks from 0 to {num_layers - 1}, or -1, got {out_indices!r}.')
    return blocks
