"""The embedded demo set, and the datasets that reach it from a config.

``sparsevit_mm.datasets.demo`` makes the set and is imported only when it is needed: it loads
scikit-image and scikit-learn, which a user with data of their own does not have to install.
"""

from .demo_datasets import demo_coco_dataset, demo_seg_dataset

__all__ = ['demo_coco_dataset', 'demo_seg_dataset']
