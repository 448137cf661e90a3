import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops import attend
from .window_attention import AttentionKernels, WindowAttention

__all__ = ['PackageAttention']


class PackageAttention:
    """Attention of a block where windows also see the package tokens of their image, which are in no window.

    A token of a window attends to its window and to the packages. A package attends to all computed tokens of its image
    and to the packages. Both are exact, though windows may come in chunks: of each window a package's attention within
    it and the logarithm of its sum are kept, and :meth:`packages` puts them together.

    (SPViT, arXiv 2112.13890, has packages in plain attention; the paper reports a Swin and does not say how.)

    Args:
        attention: Weights of the block.
        packages: ``[B, m, C]`` package tokens after the first norm.
        kernels: Of its projections.
    """

    def __init__(self, attention: WindowAttention, packages: Tensor, kernels: AttentionKernels) -> None:
        self.attention, self.kernels = attention, kernels
        self.q, self.k, self.v = attention.project(packages, kernels)  # [B, heads, m, d]
        self._values: list[Tensor] = []
        self._log_sums: list[Tensor] = []
        self._images: list[Tensor] = []

    def windows(self, x: Tensor, bias: Tensor, kinds: Tensor | None, images: Tensor, padding: Tensor | None) -> Tensor:
        """Attends within windows and to packages, and notes what packages see of these windows.

        Args:
            x: ``[M, N, C]``.
            bias: ``[1, heads, N, N]`` added to the scores, or one for each kind of window. That of packages is 0.
            kinds: ``[M]`` the kind of each window; ``None`` if there is one kind.
            images: ``[M]`` the image of each window.
            padding: ``[M, N]``, true for padding, which stock Swin attends to and packages do not.

        Returns:
            ``[M, N, C]``.
        """
        own = self.attention
        q, k, v = own.project(x, self.kernels)  # [M, heads, N, d]
        package_k, package_v = self.k.index_select(0, images), self.v.index_select(0, images)
        self._look(self.q.index_select(0, images), k, v, images, padding)
        k, v = torch.cat([k, package_k], dim=2), torch.cat([v, package_v], dim=2)
        dropout = own.attn_drop.p if own.attn_drop.training else 0.0
        x = attend(q, k, v, F.pad(bias, (0, package_k.shape[2])), kinds, own.scale, dropout)
        return own.proj_drop(self.kernels.proj(x))

    def packages(self, computed: Tensor | None = None) -> Tensor:
        """What packages have seen of all windows so far, and of each other.

        Args:
            computed: ``[M]``, of all windows in the order they came, true for those that packages may see.

        Returns:
            ``[B, m, C]``.
        """
        batch = self.q.shape[0]
        scores = self._scores(self.q, self.k)
        values = [scores.softmax(-1) @ self.v.float(), *self._values]
        log_sums = [scores.logsumexp(-1), *self._log_sums]
        images = torch.cat([torch.arange(batch, device=self.q.device), *self._images])
        values, log_sums = torch.cat(values), torch.cat(log_sums)  # [B + M, heads, m, d], [B + M, heads, m]
        if computed is not None:
            hidden = F.pad(~computed, (batch, 0), value=False)
            log_sums = log_sums.masked_fill(hidden[:, None, None], -torch.inf)
        # A softmax over the parts of each image.
        peaks = log_sums.detach().new_full((batch, *log_sums.shape[1:]), -torch.inf)
        peaks = peaks.scatter_reduce(0, images[:, None, None].expand_as(log_sums), log_sums.detach(), 'amax')
        weights = (log_sums - peaks.index_select(0, images)).exp()
        totals = torch.zeros_like(peaks).index_add(0, images, weights)
        sums = values.new_zeros(batch, *values.shape[1:]).index_add(0, images, weights[..., None] * values)
        x = (sums / totals[..., None]).to(self.v.dtype).transpose(1, 2).flatten(2)  # [B, heads, m, d] -> [B, m, C]
        return self.attention.proj_drop(self.kernels.proj(x))

    def _look(self, q: Tensor, k: Tensor, v: Tensor, images: Tensor, padding: Tensor | None) -> None:
        """Notes what packages with queries ``[M, heads, m, d]`` see of each window."""
        scores = self._scores(q, k)  # [M, heads, m, N]
        if padding is not None:
            # Finite, so that a window of nothing but padding gives no 0 / 0; its weight is nothing all the same.
            scores = scores.masked_fill(padding[:, None, None], torch.finfo(scores.dtype).min / 2)
        self._log_sums.append(scores.logsumexp(-1))
        self._values.append((scores.softmax(-1).to(v.dtype) @ v).float())
        self._images.append(images)

    def _scores(self, q: Tensor, k: Tensor) -> Tensor:
        return (q @ k.transpose(-2, -1)).float() * self.attention.scale
