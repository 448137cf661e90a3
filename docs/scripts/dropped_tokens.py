"""Where a plain ViT that drops tokens loses accuracy, and what the features of a dropped token still tell.

Both on the validation pictures of a segmentor's config. The first table divides the pixels by the block behind which
their token was left, and scores them by the dense model, by the sparse one that computes all tokens, and by the sparse
one as it is. The second trains a linear layer, and one with a hidden layer, on the features that a dense model has
behind each of these blocks, on the training pictures without augmentation. For example:

    python docs/scripts/dropped_tokens.py \
        configs/dynamicvit/segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336_sparse-rho70.py SPARSE_CHECKPOINT \
        --dense DENSE_CHECKPOINT --sparsity 0.52 0.68 0.74 --out docs/results/dropped_camvid.json
"""

import argparse
import copy
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn

from sparsevit_mm.apis import load_sparse_model
from sparsevit_mm.cost.environment import Environment
from sparsevit_mm.models import PrunedViT, find_sparse_backbone

STEPS, TOKENS, RATE, HIDDEN = 1500, 2048, 1e-3, 256  # of a probe's training


class Score:
    """mIoU of the pixels that it is shown."""

    def __init__(self) -> None:
        self.areas = 0

    def add(self, predicted: Tensor, truth: Tensor, classes: int, ignored: int) -> None:
        """Note some pixels."""
        from mmseg.evaluation import IoUMetric

        if predicted.numel():
            self.areas += torch.stack(IoUMetric.intersect_and_union(predicted, truth, classes, ignored))

    def value(self) -> float:
        """In percent, the mean of the classes that there are."""
        intersection, union, _, truth = self.areas
        return 100 * (intersection / union)[truth > 0].mean().item()

    def pixels(self) -> float:
        """How many it was shown."""
        return self.areas[3].sum().item()


def pictures(cfg: Config, model: nn.Module, part: str) -> Iterator[tuple[dict, Tensor]]:
    """The input of the model and the labels ``[H, W]`` of each picture of ``images/part``, as validation sees them."""
    loader = copy.deepcopy(cfg.val_dataloader)
    loader.dataset.data_prefix = dict(img_path=f'images/{part}', seg_map_path=f'labels/{part}')
    for batch in Runner.build_dataloader(loader):
        ready = model.data_preprocessor(batch, False)
        yield ready, ready['data_samples'][0].gt_sem_seg.data[0]


def classify(logits: Tensor, size: Sequence[int]) -> Tensor:
    """``[1, C, h, w]`` as classes ``[H, W]``."""
    return F.interpolate(logits, tuple(size), mode='bilinear', align_corners=False).argmax(1)[0]


def last_blocks(backbone: PrunedViT, image: Tensor) -> Tensor:
    """``[1, 1, h, w]``: the last block that computed each token."""
    with backbone.record_selections() as records:
        backbone(image)
    height, width = records[0].grid
    last = torch.full((1, 1, height, width), backbone.site_blocks[0] - 1.0)
    for record in records:
        last[0][record.token_mask()] = record.block
    return last


@torch.no_grad()
def compare(cfg: Config, sparse: nn.Module, dense: nn.Module) -> list[dict[str, float]]:
    """A row for each block behind which tokens are left, and one for all pixels."""
    backbone = find_sparse_backbone(sparse)
    target = backbone.sparsity
    classes, ignored = sparse.decode_head.num_classes, sparse.decode_head.ignore_index
    scores = defaultdict(Score)
    for ready, truth in pictures(cfg, sparse, 'val'):
        image, metas = ready['inputs'], [sample.metainfo for sample in ready['data_samples']]
        backbone.sparsity = target
        behind = F.interpolate(last_blocks(backbone, image), truth.shape, mode='nearest')[0, 0].int()
        found = dict(sparse=sparse.encode_decode(image, metas), dense=dense.encode_decode(image, metas))
        backbone.sparsity = 0.0
        found['sparse model, all tokens'] = sparse.encode_decode(image, metas)
        for name, logits in found.items():
            predicted = classify(logits, truth.shape)
            scores[name, 'all'].add(predicted, truth, classes, ignored)
            for block in behind.unique().tolist():
                here = behind == block
                scores[name, block].add(predicted[here], truth[here], classes, ignored)
    backbone.sparsity = target
    total = scores['sparse', 'all'].pixels()
    blocks = sorted(key for name, key in scores if name == 'sparse' and key != 'all')
    rows = []
    for block in [*blocks, 'all']:
        row = dict(behind=block, share=scores['sparse', block].pixels() / total)
        rows.append(
            row | {name: scores[name, block].value() for name in ('dense', 'sparse model, all tokens', 'sparse')}
        )
    return rows


@torch.no_grad()
def features(
    cfg: Config, model: nn.Module, part: str, blocks: Sequence[int]
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """Maps ``[C, h, w]`` behind the blocks, and labels, of each picture."""
    backbone = find_sparse_backbone(model)
    own, backbone.out_indices = backbone.out_indices, tuple(blocks)
    maps, labels = [], []
    for ready, truth in pictures(cfg, model, part):
        maps.append([each[0] for each in backbone(ready['inputs'])])
        labels.append(truth)
    backbone.out_indices = own
    return maps, labels


def probe(maps: Sequence[Tensor], shares: Tensor, hidden: int) -> nn.Module:
    """A classifier of tokens, trained to tell the classes of their pixels.

    Args:
        maps: ``[C, h, w]`` of each picture.
        shares: ``[N, classes, h, w]``, how much of a token's pixels is of each class.
        hidden: Channels of its hidden layer, 0 for none.
    """
    torch.manual_seed(0)
    x = torch.stack(list(maps)).permute(0, 2, 3, 1).flatten(0, 2)
    y = shares.permute(0, 2, 3, 1).flatten(0, 2)
    channels, classes = x.shape[1], y.shape[1]
    layers = [nn.Linear(channels, hidden), nn.GELU()] if hidden else []
    norm = nn.BatchNorm1d(channels, affine=False)
    model = nn.Sequential(norm, *layers, nn.Linear(hidden or channels, classes))
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, STEPS)
    for _ in range(STEPS):
        chosen = torch.randint(len(x), (TOKENS,))
        optimizer.zero_grad()
        F.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def probe_blocks(cfg: Config, dense: nn.Module, blocks: Sequence[int]) -> list[dict[str, float]]:
    """A row for each block: what can be read off the features behind it."""
    classes, ignored = dense.decode_head.num_classes, dense.decode_head.ignore_index
    known, labels = features(cfg, dense, 'train', blocks)
    unknown, truths = features(cfg, dense, 'val', blocks)
    size = known[0][0].shape[1:]
    shares = [F.one_hot(each.where(each < classes, classes).long(), classes + 1)[..., :classes] for each in labels]
    shares = torch.stack([F.adaptive_avg_pool2d(each.permute(2, 0, 1).float(), size) for each in shares])
    rows = []
    for i, block in enumerate(blocks):
        row = dict(behind=block)
        for name, hidden in (('linear', 0), ('hidden layer', HIDDEN)):
            model, score = probe([maps[i] for maps in known], shares, hidden), Score()
            for maps, truth in zip(unknown, truths):
                with torch.no_grad():
                    logits = model(maps[i].flatten(1).T).T.unflatten(1, size)[None]
                score.add(classify(logits, truth.shape), truth, classes, ignored)
            row[name] = score.value()
        rows.append(row)
    return rows


def table(rows: Sequence[dict[str, float]]) -> str:
    """Rows as Markdown."""
    lines = [list(rows[0]), ['--:'] * len(rows[0])]
    lines += [[f'{each:.2f}' if isinstance(each, float) else str(each) for each in row.values()] for row in rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG', help='of a segmentor with a PrunedViT, on CamVid')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='of the sparse model')
    parser.add_argument('--dense', required=True, metavar='CHECKPOINT', help='of the dense one, of the same config')
    parser.add_argument('--sparsity', nargs='+', type=float, required=True, help='that the sparse one was trained at')
    parser.add_argument('--threads', type=int, default=2, help='of torch (default: 2)')
    parser.add_argument('--out', type=Path, required=True, metavar='JSON')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cfg, sparse = load_sparse_model(args.config, args.checkpoint, args.sparsity)
    dense = load_sparse_model(args.config, args.dense, 0.0)[1]
    backbone = find_sparse_backbone(sparse)
    dropped = compare(cfg, sparse, dense)
    blocks = [*(block - 1 for block in backbone.site_blocks), len(backbone.layers) - 1]
    probes = probe_blocks(cfg, dense, blocks)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    found = dict(config=args.config, sparsity=args.sparsity, dropped=dropped, probes=probes)
    shape = tuple(cfg.model.data_preprocessor.size)
    found['environment'] = Environment.current(device='cpu', dtype='float32', batch=1, shape=shape).to_dict()
    args.out.write_text(json.dumps(found, indent=1) + '\n')
    print(table(dropped), table(probes), sep='\n\n')


if __name__ == '__main__':
    main()
