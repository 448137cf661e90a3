import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import PatchMerging
from torch import Tensor

__all__ = ['FoldPatchMerging']


class FoldPatchMerging(PatchMerging):
    """mmcv's patch merging, with one transposed copy instead of ``nn.Unfold`` where patches do not overlap.

    Same parameters, same order of the merged channels, same result.
    """

    def forward(self, x: Tensor, input_size: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        """Merges patches of a map.

        Args:
            x: ``[B, H * W, C]``.
            input_size: ``(H, W)``.

        Returns:
            ``[B, H' * W', C']`` and ``(H', W')``.
        """
        kernel = self.sampler.kernel_size
        if self.adaptive_padding is None or self.sampler.stride != kernel or self.sampler.dilation != (1, 1):
            return super().forward(x, input_size)
        batch, _, dims = x.shape
        height, width = input_size
        x = x.view(batch, height, width, dims)
        out = (-(-height // kernel[0]), -(-width // kernel[1]))
        pad = (out[0] * kernel[0] - height, out[1] * kernel[1] - width)
        if any(pad):
            x = F.pad(x, (0, 0, 0, pad[1], 0, pad[0]))  # corner padding
        # [B, H', k, W', k, C] -> [B, H', W', C, k, k], the channel order of nn.Unfold
        x = x.view(batch, out[0], kernel[0], out[1], kernel[1], dims).permute(0, 1, 3, 5, 2, 4)
        x = x.reshape(batch, out[0] * out[1], -1)
        x = x if self.norm is None else self.norm(x)
        return self.reduction(x), out
