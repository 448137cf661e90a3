"""Losses beside those of a task: what a selector keeps, and what a dense teacher says.

All are computed in float32, under autocast too.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ['feature_distillation_loss', 'keep_ratio_loss', 'logit_distillation_loss']


def keep_ratio_loss(ratios: Sequence[Tensor], targets: Sequence[float], per_image: bool = True) -> Tensor:
    """How far selectors are from keeping what they should.

    With ``r_bs`` the fraction of units that site ``s`` keeps of image ``b``, and ``t_s`` its target:

    - for each image, as DynamicViT (arXiv 2106.02034, ``L_ratio``): ``1 / (B S) sum_b sum_s (t_s - r_bs)^2``. Every
      image is drawn to the target, which is what a fixed number of kept units asks for.
    - for the batch, as the released code of SPViT (arXiv 2112.13890): ``1 / S sum_s (t_s - 1 / B sum_b r_bs)^2``.
      Images may differ as long as their mean is right.

    Args:
        ratios: ``[B]`` kept fractions for each of ``S`` sites, at least one.
        targets: Fractions to keep, one a site.
        per_image: Which of the two.

    Returns:
        A scalar.
    """
    kept = torch.stack([ratio.float() for ratio in ratios], dim=1)  # [B, S]
    if not per_image:
        kept = kept.mean(0, keepdim=True)
    return (kept - kept.new_tensor(targets)).square().mean()


def feature_distillation_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], computed: Mapping[int, Tensor] | None = None
) -> Tensor:
    """Mean squared error of feature maps, averaged over the maps.

    All positions are compared, as in DynamicViT's Swin and ConvNeXt (arXiv 2207.01580), or those alone that are
    computed, as in its plain ViT (arXiv 2106.02034, ``L_distill``), which compares the tokens left at the end.

    Args:
        student: ``[B, C_i, H_i, W_i]`` maps.
        teacher: Maps of the same shapes, without a gradient.
        computed: Indices of maps to the positions ``[B, H_i, W_i]`` that count, where not all do.

    Returns:
        A scalar.

    Raises:
        ValueError: If the maps differ in number or shape.
    """
    shapes = [[tuple(x.shape) for x in maps] for maps in (student, teacher)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f'the feature maps of the teacher, {_listed(shapes[1])}, are not those of the student, '
            f'{_listed(shapes[0])}. Take a teacher with the same channels, strides and out_indices, or set '
            f'feature_weight=0 and distil logits only.'
        )
    distances = []
    for i, (ours, theirs) in enumerate(zip(student, teacher)):
        error = (ours.float() - theirs.float()).square().mean(1)  # [B, H_i, W_i]
        if computed and i in computed:
            counts = computed[i].to(error.dtype)
            distances.append((error * counts).sum() / counts.sum().clamp(min=1))  # 0 where nothing was computed
        else:
            distances.append(error.mean())
    return torch.stack(distances).mean()


def logit_distillation_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence of the classes that a teacher and a student see, averaged over pixels and images.

    ``T^2 / (B H W) sum_bhw sum_k p_k log(p_k / q_k)``, with ``p`` the softmax of the teacher's logits over ``T`` and
    ``q`` that of the student's: the order of DynamicViT's released code (its paper writes ``KL(student || teacher)``).
    ``T^2`` keeps the size of the gradient (Hinton et al., arXiv 1503.02531). A single channel is the logit of a
    foreground, against 0 for the background.

    Args:
        student: ``[B, K, H, W]`` logits.
        teacher: Logits of the same shape, without a gradient.
        temperature: ``T``.

    Returns:
        A scalar.

    Raises:
        ValueError: If the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f'the logits of the teacher, {tuple(teacher.shape)}, are not of the shape of the student, '
            f'{tuple(student.shape)}. Take a teacher with the same classes and the same kind of decode head, or set '
            f'logit_weight=0 and distil features only.'
        )
    theirs = F.log_softmax(_two_classes(teacher.float()) / temperature, dim=1)
    ours = F.log_softmax(_two_classes(student.float()) / temperature, dim=1)
    divergence = F.kl_div(ours, theirs, reduction='none', log_target=True).sum(1)  # [B, H, W]
    return temperature**2 * divergence.mean()


def _two_classes(logits: Tensor) -> Tensor:
    return logits if logits.shape[1] > 1 else torch.cat([torch.zeros_like(logits), logits], dim=1)


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return ', '.join('x'.join(map(str, shape)) for shape in shapes) or 'none'
