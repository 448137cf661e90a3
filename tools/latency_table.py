"""Measure what every site of a backbone takes on this device, and fit sparsities to latency budgets by it.

For example, the table of a Swin-T, and its sparsity for 60 % of the dense latency and for 200 ms:

    python tools/latency_table.py mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py \
        --shape 512 512 --check 10 --out swin-t.json --fit 60% 200ms

With --device onnxruntime it is the table of the exported model as ONNX Runtime runs it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from sparsevit_mm.budget import Budget
from sparsevit_mm.cli import add_config_options, run_tool
from sparsevit_mm.cost import LatencyTable, measure_latency_table
from sparsevit_mm.cost.conditions import DTYPES, check_device, check_dtype, check_image_shape, check_threads
from sparsevit_mm.cost.fit import check_weights
from sparsevit_mm.cost.modes import ONNXRUNTIME
from sparsevit_mm.cost.onnx_table import measure_onnx_table
from sparsevit_mm.cost.subjects import load_subject
from sparsevit_mm.cost.table_device import conditions_here
from sparsevit_mm.cost.table_entries import check_choices
from sparsevit_mm.cost.table_report import Fit, check_sentence, fit, fits_table, sites_table
from sparsevit_mm.models import SparseBackbone
from sparsevit_mm.sparsity import DEFAULT_CHOICES

# What a measurement takes where nothing else is said; with --table they are those of the table.
DEFAULTS = dict(shape=(800, 1344), batch=1, dtype='float32', device='cpu')
MEASURING = dict(out=None, choices=None, rounds=10, forwards=1, check=0)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', metavar='CONFIG', help='path, or mmdet::..., mmseg::..., mmdet3d::...; stock or ours')
    add('--out', type=Path, metavar='JSON', help='write the table here')
    add('--table', type=Path, metavar='JSON', help='fit by this table instead of measuring one')
    add('--foreign', action='store_true', help='the table may be of another device; the backbone must fit all the same')
    add('--fit', nargs='+', metavar='BUDGET', default=[], help='fractions of dense (0.6, 60%%) or times (30ms)')
    add('--margin', type=float, help="fraction of a budget kept free (default: by the table's check, or 0.05)")
    add('--weights', nargs='+', type=float, metavar='W', help='how much dropping at a site matters (default: all 1)')
    add('--shape', nargs=2, type=int, metavar=('H', 'W'), help='pixels (default: 800 1344)')
    add('--batch', type=int, help='images in one forward (default: 1)')
    add('--dtype', choices=DTYPES, help='half precision is by autocast (default: float32)')
    add('--device', help='cpu, cuda, or onnxruntime for the exported model on the CPU (default: cpu)')
    add('--threads', type=int, help="torch's intra-op threads (default: as they are)")
    add('--choices', nargs='+', type=float, metavar='S', help='sparsities from 0 up (default: 0 to 0.8 by 0.1)')
    add('--rounds', type=int, default=MEASURING['rounds'], help='values of each setting (default: 10)')
    add('--forwards', type=int, default=MEASURING['forwards'], help='timed passes of a round (default: 1)')
    add('--check', type=int, default=MEASURING['check'], metavar='N', help='random settings to check with (default: 0)')
    add_config_options(parser)
    return parser.parse_args(argv)


def measured(args: argparse.Namespace, backbone: SparseBackbone) -> LatencyTable:
    """A new table.

    Raises:
        ValueError: On a mistake in the options.
    """
    options = dict(
        batch=args.batch,
        choices=args.choices or DEFAULT_CHOICES,
        rounds=args.rounds,
        threads=args.threads,
        check=args.check,
    )
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task('settings')
        options['progress'] = lambda done, total: bar.update(task, completed=done, total=total)
        if args.device == ONNXRUNTIME:
            return measure_onnx_table(backbone, tuple(args.shape), **options)
        options |= dict(dtype=args.dtype, device=args.device, forwards=args.forwards)
        return measure_latency_table(backbone, tuple(args.shape), **options)


def loaded(args: argparse.Namespace, backbone: SparseBackbone) -> LatencyTable:
    """The table that is given, if it is of this backbone, device and whatever conditions the options name.

    Raises:
        ValueError: If it is not.
    """
    table = LatencyTable.load(args.table)
    named = {name: getattr(args, name) for name in (*DEFAULTS, 'threads') if getattr(args, name) is not None}
    if not args.foreign:
        named |= conditions_here(table, device=args.device, threads=args.threads)
    table.require(backbone, **named)
    return table


def check_options(args: argparse.Namespace) -> None:
    """Find mistakes before anything is built or measured.

    Raises:
        ValueError: If an option is not valid, or does not go with another.
    """
    if args.table is not None:
        wrong = [f'--{name}' for name, default in MEASURING.items() if getattr(args, name) != default]
        if wrong:
            raise ValueError(f'{", ".join(wrong)} belong to a measurement, but --table names one that was made.')
    elif args.foreign:
        raise ValueError('--foreign is about the device of a --table: give one.')
    else:
        for name, default in DEFAULTS.items():
            if getattr(args, name) is None:
                setattr(args, name, default)
        check_image_shape(args.shape, args.batch)
        check_dtype(args.dtype, check_device('cpu' if args.device == ONNXRUNTIME else args.device))
        wrong = [f'--{name}' for name in ('dtype', 'forwards') if getattr(args, name) != (DEFAULTS | MEASURING)[name]]
        if args.device == ONNXRUNTIME and wrong:
            raise ValueError(f'--device {ONNXRUNTIME} runs float32, one timed pass a round: leave out {wrong[0]}.')
        check_threads(args.threads)
        check_choices(args.choices or DEFAULT_CHOICES)
    for budget in args.fit:
        Budget.parse(budget, 's')
    if args.margin is not None and not 0 <= args.margin < 1:
        raise ValueError(f'--margin must be a fraction in [0, 1), got {args.margin}.')
    if args.weights is not None and not args.fit:
        raise ValueError('--weights are about a budget that is fitted to: give one with --fit.')


def show_fits(args: argparse.Namespace, table: LatencyTable, backbone: SparseBackbone, console: Console) -> int:
    """Print what the budgets lead to; returns 1 if one of them leads to nothing."""
    fits: list[Fit] = []
    failures: list[ValueError] = []
    for budget in args.fit:
        try:
            fits.append(fit(table, backbone, budget, args.margin, args.weights))
        except ValueError as error:
            failures.append(error)
    if fits:
        console.print(fits_table(fits))
    for error in failures:
        console.print(f'error: {error}', style='bold red')
    return int(bool(failures))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    Raises:
        ValueError: On a mistake in the options or the config, or if a table does not fit.
        OSError: If the table cannot be written.
    """
    args = parse_args(argv)
    console = Console(soft_wrap=True, highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
    check_options(args)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    backbone = load_subject(args.config, [0.0], stock=False, cfg_options=args.cfg_options).sparse
    if args.weights is not None:
        check_weights(args.weights, backbone.sites)
    table = measured(args, backbone) if args.table is None else loaded(args, backbone)
    if args.out is not None:
        table.save(args.out)
    console.print(sites_table(table))
    console.print(check_sentence(table))
    if args.out is not None:
        console.print(f'Written to {args.out}')
    return show_fits(args, table, backbone, console)


if __name__ == '__main__':
    sys.exit(run_tool(main))
