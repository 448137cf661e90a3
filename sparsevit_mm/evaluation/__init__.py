"""Metrics that the package brings because the ones of the OpenMMLab packages do not fit its use."""

from .center_distance_metric import CenterDistanceMetric
from .kitti_metric import KittiMonoMetric

__all__ = ['CenterDistanceMetric', 'KittiMonoMetric']
