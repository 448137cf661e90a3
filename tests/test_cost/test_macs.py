import pytest
import torch

from sparsevit_mm.cost import count_macs
from sparsevit_mm.models import SparseSwin

# Rows of SparseViT's tables that follow from the architecture alone: width, image, sparsity, images, published GMACs.
# nuScenes rows are for six cameras, COCO rows for four images. The sparsities are those of its released configs.
PUBLISHED = [
    ('nuScenes Swin-T', 96, (256, 704), 0, 6, 140.8),
    ('nuScenes R224', 96, (224, 616), 0, 6, 78.5),
    ('nuScenes R192', 96, (192, 528), 0, 6, 67.1),
    ('nuScenes W0.6', 60, (256, 704), 0, 6, 56.0),
    ('COCO R576', 96, (576, 576), 0, 4, 149.5),
    ('COCO R544', 96, (544, 544), 0, 4, 119.8),
    ('COCO R512', 96, (512, 512), 0, 4, 117.5),
    ('COCO W0.9', 84, (640, 640), 0, 4, 122.3),
    ('COCO W0.8', 72, (640, 640), 0, 4, 90.5),
    ('COCO W0.6', 60, (640, 640), 0, 4, 63.4),
    ('COCO SparseViT 672, released config 1', 96, (672, 672), (0.3, 0, 0.1, 0.2, 0.2, 0), 4, 139.5),
    ('COCO SparseViT 672, released config 2', 96, (672, 672), (0.6, 0, 0.2, 0.4, 0.5, 0), 4, 116.5),
]


def swin(**arguments) -> SparseSwin:
    with torch.device('meta'):
        return SparseSwin(**arguments)


@pytest.mark.parametrize(('row', 'width', 'shape', 'sparsity', 'images', 'published'), PUBLISHED, ids=lambda v: str(v))
def test_published_gmacs(row, width, shape, sparsity, images, published):
    backbone = swin(embed_dims=width, sparsity=sparsity)
    assert count_macs(backbone, shape, convention='padded') * images / 1e9 == pytest.approx(published, rel=2e-3)


def test_conventions_agree_where_nothing_is_padded():
    backbone = swin(sparsity=0.4)
    assert count_macs(backbone, (672, 672)) == count_macs(backbone, (672, 672), convention='padded')
    assert count_macs(backbone, (640, 640)) < count_macs(backbone, (640, 640), convention='padded')


def test_more_sparsity_never_costs_more():
    for shape in ((256, 704), (640, 640), (800, 1344), (96, 96)):
        costs = [count_macs(swin(sparsity=s / 20), shape) for s in range(20)]
        assert costs == sorted(costs, reverse=True)


def test_small_case_by_hand():
    backbone = swin(embed_dims=4, depths=(1,), num_heads=(1,), strides=(4,), out_indices=(0,), sparsity=0.5)
    # 56 x 56 pixels: 14 x 14 tokens, 4 windows of 49, of which 2 are kept.
    embedding = 196 * 4 * 48
    rows = 98
    block = rows * (4 * 4 * 4) + 2 * rows * 49 * 4 + rows * 2 * 4 * 16
    assert count_macs(backbone, (56, 56)) == embedding + block


def test_mistakes():
    with pytest.raises(ValueError, match=r"convention must be one of .*got 'guess'"):
        count_macs(swin(), (224, 224), convention='guess')
    with pytest.raises(ValueError, match='count_macs does not know Linear'):
        count_macs(torch.nn.Linear(1, 1), (224, 224))
