"""Searches the sparsity of a plain torch model: no config, no runner, and nothing of OpenMMLab's model packages.

A small residual network learns scikit-learn's handwritten digits. Each of its blocks is a *site*: it may leave out some
of its hidden units, those with the smallest weights, by multiplying with slices of its matrices. What the library needs
to know of all this is in three places: the sites (``SPACE``), what a setting costs (``Macs``), and how good one is
(``accuracy``). The loop of asking and telling is yours, in ``search``.

    python docs/examples/search_plain_torch.py

Every result is in the storage at once. --resume goes on with a search that was stopped, and any number of processes may
work at one storage, each started by the same line:

    python docs/examples/search_plain_torch.py --storage sqlite:///digits.sqlite3 --resume --trials 100
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsevit_mm.search import Budget, Outcome, SparsityLayout, SparsitySpace, SparsityStudy, format_cost, write_report
from sparsevit_mm.sparsity import keep_count

WIDTHS, BLOCKS, HIDDEN, CLASSES = (64, 128), 2, 4, 10  # of the stages; in each stage; times the width; digits
SITES = tuple(f'stage{stage + 1}.block{block + 1}' for stage in range(len(WIDTHS)) for block in range(BLOCKS))
# Within a group sparsity never decreases with depth. Where that makes no sense give every site a group of its own.
SPACE = SparsitySpace(SparsityLayout(SITES, groups=(BLOCKS,) * len(WIDTHS)), (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95))
Part = tuple[Tensor, Tensor]  # images and digits


class Block(nn.Module):
    """Adds to its input what those of its hidden units make of it that have the largest weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(width), nn.Linear(width, HIDDEN * width)
        self.down = nn.Linear(HIDDEN * width, width)

    def forward(self, x: Tensor, sparsity: float) -> Tensor:
        up, bias, down = self.up.weight, self.up.bias, self.down.weight
        kept = keep_count(len(up), sparsity)
        if kept < len(up):
            units = (up.norm(dim=1) * down.norm(dim=0)).topk(kept).indices
            up, bias, down = up[units], bias[units], down[:, units]
        return x + F.linear(F.relu(F.linear(self.norm(x), up, bias)), down, self.down.bias)


class Net(nn.Module):
    """Two stages of two blocks; ``sparsity`` has one float a block and may be set at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.sparsity: Sequence[float] = (0.0,) * len(SITES)
        self.enter = nn.ModuleList(nn.Linear(a, b) for a, b in zip((64, *WIDTHS), WIDTHS))
        self.blocks = nn.ModuleList(Block(width) for width in WIDTHS for _ in range(BLOCKS))
        self.head = nn.Linear(WIDTHS[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for i, (block, sparsity) in enumerate(zip(self.blocks, self.sparsity)):
            x = block(self.enter[i // BLOCKS](x) if i % BLOCKS == 0 else x, sparsity)
        return self.head(x)


class Macs:
    """What the search must know of cost: multiply-adds of one image, exactly (the protocol ``CostModel``)."""

    name, unit = 'macs', 'MACs'

    def calibrate(self, state: dict | None = None) -> dict:
        return state or {'dense': self.cost((0.0,) * len(SITES))}

    def cost(self, sparsity: Sequence[float]) -> float:
        fixed = sum(a * b for a, b in zip((64, *WIDTHS), (*WIDTHS, CLASSES)))
        widths = [width for width in WIDTHS for _ in range(BLOCKS)]
        return fixed + sum(2 * width * keep_count(HIDDEN * width, s) for width, s in zip(widths, sparsity))

    def conditions(self) -> dict:
        return {'image': [8, 8]}


def digits(seed: int) -> tuple[Part, Part, Part]:
    """Images to train on, to search on, and to report: the ones that were chosen by look better than others."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(seed))
    images, classes = torch.tensor(data.data / 16 - 0.5).float()[order], torch.tensor(data.target)[order]
    return tuple(zip(images.split([800, 500, 497]), classes.split([800, 500, 497])))


def train(part: Part, seed: int, steps: int = 400) -> Net:
    """A net that is used to all settings: half of the steps are dense, the others at one that is drawn at random."""
    torch.manual_seed(seed)
    rng, net = random.Random(seed), Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        net.sparsity = SPACE.sample(rng) if step % 2 else (0.0,) * len(SITES)
        batch = torch.randint(len(part[0]), (64,))
        loss = F.cross_entropy(net(part[0][batch]), part[1][batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def accuracy(net: Net, sparsity: Sequence[float], part: Part) -> float:
    """Per cent of the images that are told right at a setting."""
    net.sparsity = sparsity
    return 100 * (net(part[0]).argmax(1) == part[1]).double().mean().item()


def search(net: Net, part: Part, args: argparse.Namespace) -> Outcome:
    """Asks, evaluates and tells until all candidates are tried."""
    study = SparsityStudy(
        SPACE,
        Macs(),
        Budget(args.budget),
        storage=args.storage,
        resume=args.resume,
        trials=args.trials,
        seed=args.seed,
        metric='accuracy',
        fingerprint={'net': [*WIDTHS, HIDDEN], 'trained by seed': args.seed},  # another net is another study
    )
    while (candidate := study.ask()) is not None:
        start = time.perf_counter()
        scored = {'accuracy': accuracy(net, candidate.sparsity, part)}
        study.tell(candidate, scored, time.perf_counter() - start)
        print(f'trial {candidate.number}: {candidate.sparsity} {scored["accuracy"]:.1f} {candidate.cost:.0f}')
    study.close()
    return study.outcome()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', default='work_dirs/search_plain_torch', help='folder of the report')
    parser.add_argument('--budget', type=float, default=0.2, help='fraction of the dense multiply-adds')
    parser.add_argument('--trials', type=int, default=40, help='candidates in all')
    parser.add_argument('--storage', metavar='URL', help='database of the study (default: in memory)')
    parser.add_argument('--resume', action='store_true', help='go on with the study that is there')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    to_train, to_search, to_report = digits(args.seed)
    net = train(to_train, args.seed)
    try:
        outcome = search(net, to_search, args)
    except ValueError as error:  # a study that is there already, a budget that cannot be met
        return print(f'error: {error}', file=sys.stderr) or 1
    print(f'\n{"":12}{"sparsity":24}{"searched on":>12}{"others":>8}{"MACs":>8}{"of dense":>10}')
    for name, e in (('dense', outcome.dense), ('best uniform', outcome.best_uniform), ('found', outcome.best)):
        if e is not None:
            told = f'{e.accuracy:12.1f}{accuracy(net, e.sparsity, to_report):8.1f}'
            cost = f'{format_cost(e.cost, outcome.unit):>12}{outcome.share(e.cost):8.3f}'
            print(f'{name:13}{e.sparsity!s:23}{told}{cost}')
    facts = {'Scored on': f'{len(to_search[0])} digits', 'Seed': str(args.seed)}
    for path in write_report(outcome, args.out, facts, 'residual MLP on digits', cost={'Counted': 'MACs of an image'}):
        print(path)
    return 0


if __name__ == '__main__':
    sys.exit(main())
