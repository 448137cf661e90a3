"""What a selector is worth: one sparse config trained with several of them and several seeds, from the same weights.

Each model is tested once, at the end, on the test set of the config; nothing is chosen by it. Runs that are in the
file of results already are not made again, so a stopped comparison goes on where it was. For example, windows of the
demo set against chance, tested on pictures of another seed than the ones that hyperparameters were tried on:

    python docs/scripts/compare_selectors.py \
        configs/demo/upernet_swin-mini-p4-w7_800i_demo-448x448_sparse-learned.py DENSE_CHECKPOINT \
        --selectors configured RandomSelector MagnitudeSelector --out docs/results/selectors_demo.json \
        --cfg-options test_dataloader.dataset.seed=1

A selector that does not learn is trained without KeepRatioLossHook; RandomSelector draws its permutation by the seed.
Instead of selectors, any option of the config can be compared, each value under a name of its own:

    python docs/scripts/compare_selectors.py \
        configs/spvit/segmenter_pruned-dinov2-s14_fcn_300i_camvid-252x336_sparse-package.py DENSE_CHECKPOINT \
        --variants package=model.backbone.unfold=residual package-reuse=model.backbone.unfold=reuse \
        dropped=model.backbone.bypass=reuse \
        --shape 252 336 --out docs/results/packages_camvid.json
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.runner import Runner

from sparsevit_mm.apis import drop_pretrained, load_config
from sparsevit_mm.cost import count_macs
from sparsevit_mm.cost.environment import Environment
from sparsevit_mm.models import find_sparse_backbone
from sparsevit_mm.runs import build_runner, set_work_dir

SMOOTHED = 20  # iterations that the first and the last loss are means of


class Keeper(Hook):
    """Keeps the losses of all iterations, and what selectors wanted in the last one."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.ratios: dict[str, float] = {}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Note the sum that was minimised, and the ratios."""
        self.losses.append(outputs['loss'].item())
        noted = find_sparse_backbone(runner.model).keep_ratios
        self.ratios = {site: round(float(ratio.mean()), 4) for site, ratio in noted.items()}


def configure(args: argparse.Namespace, selector: str, seed: int) -> Config:
    """The config of one run."""
    cfg = load_config(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.load_from = args.checkpoint
    drop_pretrained(cfg)
    cfg.randomness = dict(seed=seed)
    cfg.log_level = 'ERROR'
    backbone = cfg.model.backbone
    if args.variants is not None:
        cfg.merge_from_dict(args.variants[selector])
    elif selector == 'dense':
        backbone.sparsity = 0.0
    elif selector != 'configured':
        backbone.selector = dict(type=f'sparsevit_mm.{selector}')
        if selector == 'RandomSelector':
            backbone.selector.seed = seed
    if args.variants is None and selector != 'configured':
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if not hook.type.endswith('KeepRatioLossHook')]
    set_work_dir(cfg, args.config, str(Path(args.work_dir, f'{selector}_seed{seed}')))
    cfg.experiment_name = cfg.visualizer.name = f'{Path(args.config).stem}_{selector}_{seed}'
    return cfg


def train_and_test(cfg: Config, shape: Sequence[int]) -> dict[str, Any]:
    """Train and test once."""
    runner = build_runner(cfg)
    keeper = Keeper()
    runner.register_hook(keeper)
    start = time.perf_counter()
    runner.train()
    seconds = time.perf_counter() - start
    backbone = find_sparse_backbone(runner.model)
    metrics = runner.test()
    losses = keeper.losses
    return dict(
        metrics={name: float(value) for name, value in metrics.items()},
        sparsity=list(backbone.sparsity),
        macs=count_macs(backbone, tuple(shape)),
        keep_ratios_of_last_iteration=keeper.ratios,
        first_loss=sum(losses[:SMOOTHED]) / len(losses[:SMOOTHED]),
        last_loss=sum(losses[-SMOOTHED:]) / len(losses[-SMOOTHED:]),
        iterations=len(losses),
        training_seconds=round(seconds),
    )


def environment(cfg: Config, shape: Sequence[int]) -> dict[str, Any]:
    """Where it was trained."""
    dtype = 'bfloat16' if 'BFloat16' in cfg.optim_wrapper.type else 'float32'
    batch = cfg.train_dataloader.batch_size
    return Environment.current(device='cpu', dtype=dtype, batch=batch, shape=tuple(shape)).to_dict()


def read(path: Path, config: str) -> dict[str, Any]:
    """What was found so far."""
    return json.loads(path.read_text()) if path.exists() else dict(config=config, runs=[])


def summary(runs: Sequence[Mapping[str, Any]], metric: str) -> str:
    """A row of a Markdown table for each selector: mean, and one value a seed in the order of the seeds."""
    rows = []
    for selector in dict.fromkeys(run['selector'] for run in runs):
        own = sorted((run for run in runs if run['selector'] == selector), key=lambda run: run['seed'])
        values = [run['metrics'][metric] for run in own]
        seeds = ', '.join(f'{value:.1f}' for value in values)
        rows.append(f'| {selector} | {sum(values) / len(values):.1f} | {seeds} |')
    return '\n'.join(rows)


def parse_variant(text: str) -> tuple[str, dict[str, Any]]:
    """``NAME=KEY=VALUE``, more of them separated by commas, as a name and overrides of the config."""
    name, _, options = text.partition('=')
    parsed = {}
    for option in options.split(','):
        key, _, value = option.partition('=')
        parsed[key] = DictAction._parse_int_float_bool(value)
    return name, parsed


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG', help='a sparse config; its selector is called "configured"')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='dense weights that every run starts from')
    parser.add_argument('--selectors', nargs='+', default=['configured', 'RandomSelector'], metavar='NAME')
    parser.add_argument('--variants', nargs='+', metavar='NAME=KEY=VALUE', help='compare these instead of selectors')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--metric', default='mIoU', help='printed at the end (default: mIoU)')
    parser.add_argument('--shape', nargs=2, type=int, default=(448, 448), metavar=('H', 'W'), help='for MACs')
    parser.add_argument('--threads', type=int, default=1, help='of torch (default: 1)')
    parser.add_argument('--work-dir', default='work_dirs/compare_selectors')
    parser.add_argument('--out', type=Path, required=True, metavar='JSON')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args()
    if args.variants is not None:
        args.variants = dict(map(parse_variant, args.variants))
        args.selectors = list(args.variants)
    torch.set_num_threads(args.threads)
    found = read(args.out, args.config)
    if found['config'] != args.config:
        parser.error(f'{args.out} belongs to {found["config"]}: choose another file.')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for selector in args.selectors:
            if any((run['selector'], run['seed']) == (selector, seed) for run in found['runs']):
                continue
            cfg = configure(args, selector, seed)
            conditions = environment(cfg, args.shape)
            result = train_and_test(cfg, args.shape)
            found = read(args.out, args.config)  # another process may have added its seeds
            found['runs'].append(dict(selector=selector, seed=seed, **result))
            found['cfg_options'] = args.cfg_options or {}
            found['environment'] = conditions
            args.out.write_text(json.dumps(found, indent=1) + '\n')
    print(summary(found['runs'], args.metric))


if __name__ == '__main__':
    main()
