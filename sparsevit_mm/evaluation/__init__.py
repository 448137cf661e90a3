"""Metrics that the package brings because the ones of the OpenMMLab packages do not fit its use."""

from .kitti_metric import KittiMonoMetric

__all__ = ['KittiMonoMetric']
