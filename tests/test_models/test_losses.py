"""Losses of selectors and teachers, against their formulas written out."""

import pytest
import torch

from sparsevit_mm.models.losses import feature_distillation_loss, keep_ratio_loss, logit_distillation_loss


def test_keep_ratio_for_each_image_and_for_the_batch() -> None:
    ratios = [torch.tensor([0.4, 0.8]), torch.tensor([0.1, 0.3])]
    each = ((0.4 - 0.6) ** 2 + (0.8 - 0.6) ** 2 + (0.1 - 0.5) ** 2 + (0.3 - 0.5) ** 2) / 4
    assert keep_ratio_loss(ratios, [0.6, 0.5]).item() == pytest.approx(each)
    batch = ((0.6 - 0.6) ** 2 + (0.2 - 0.5) ** 2) / 2
    assert keep_ratio_loss(ratios, [0.6, 0.5], per_image=False).item() == pytest.approx(batch)


def test_keep_ratio_gradient_leads_to_the_target() -> None:
    ratio = torch.tensor([0.9, 0.2], requires_grad=True)
    keep_ratio_loss([ratio], [0.5]).backward()
    assert ratio.grad[0] > 0 > ratio.grad[1]


def test_features_are_averaged_over_maps_not_over_elements() -> None:
    student = [torch.zeros(2, 3, 8, 8), torch.zeros(2, 6, 4, 4)]
    teacher = [torch.full((2, 3, 8, 8), 2.0), torch.full((2, 6, 4, 4), 1.0)]
    assert feature_distillation_loss(student, teacher).item() == pytest.approx((4 + 1) / 2)


def test_features_where_they_were_computed() -> None:
    student = [torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)]
    teacher = [torch.ones(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)]
    teacher[1][0, :, 0, 0] = 2.0
    teacher[1][1, :, 1, 1] = 7.0  # not computed
    computed = torch.zeros(2, 2, 2, dtype=torch.bool)
    computed[:, 0, 0] = True
    assert feature_distillation_loss(student, teacher, {1: computed}).item() == pytest.approx((1 + 4 / 2) / 2)
    assert feature_distillation_loss(student, teacher, {1: computed & False}).item() == pytest.approx(1 / 2)


def test_features_in_half_precision_do_not_overflow() -> None:
    student, teacher = torch.full((1, 4, 8, 8), 300.0).half(), torch.zeros(1, 4, 8, 8).half()
    assert feature_distillation_loss([student], [teacher]).item() == 90000


@pytest.mark.parametrize('teacher', [[(1, 4, 8, 8)], [(1, 4, 8, 8), (1, 8, 2, 4)]], ids=['number', 'shape'])
def test_other_features_are_named(teacher: list[tuple[int, ...]]) -> None:
    student = [torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 4, 4)]
    with pytest.raises(ValueError, match=r'1x4x8x8.*student, 1x4x8x8, 1x8x4x4.*out_indices.*feature_weight=0'):
        feature_distillation_loss(student, [torch.zeros(shape) for shape in teacher])


@pytest.mark.parametrize('temperature', [1.0, 3.0])
def test_logits_against_the_formula(temperature: float) -> None:
    student, teacher = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    p, q = ((logits / temperature).softmax(1) for logits in (teacher, student))
    expected = temperature**2 * (p * (p / q).log()).sum() / (2 * 3 * 4)
    torch.testing.assert_close(logit_distillation_loss(student, teacher, temperature), expected)
    assert logit_distillation_loss(teacher, teacher, temperature).item() == pytest.approx(0, abs=1e-6)


def test_a_single_channel_is_the_logit_of_two_classes() -> None:
    student, teacher = torch.randn(2, 1, 3, 4), torch.randn(2, 1, 3, 4)
    p, q = teacher.sigmoid(), student.sigmoid()
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    torch.testing.assert_close(logit_distillation_loss(student, teacher), expected)


def test_other_logits_are_named() -> None:
    with pytest.raises(ValueError, match=r'teacher, \(1, 7, 4, 4\).*student, \(1, 5, 4, 4\).*logit_weight=0'):
        logit_distillation_loss(torch.zeros(1, 5, 4, 4), torch.zeros(1, 7, 4, 4))
