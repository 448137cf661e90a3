"""Train a config of mmdet, mmseg or mmdet3d, with a sparse backbone or a stock one.

For example, on this machine's CPU or first GPU, and going on after an interruption:

    python tools/train.py configs/demo/CONFIG.py
    python tools/train.py configs/demo/CONFIG.py --resume
"""

import argparse
import os
import sys
from collections.abc import Sequence

from sparsevit_mm.apis import load_config
from sparsevit_mm.cli import add_config_options, add_launcher_options, run_tool


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', help='path, or mmdet::..., mmseg::..., mmdet3d::...; stock or ours')
    add('--work-dir', help='folder for logs and checkpoints (default: work_dirs/NAME_OF_CONFIG)')
    add('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU that has it')
    add(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate from the config's batch size to this run's",
    )
    add('--sync_bn', choices=('none', 'torch', 'mmcv'), default='none', help='turn all BatchNorm layers into SyncBN')
    add(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or with no value from the latest one in the work dir if there is one',
    )
    add_config_options(parser)
    add_launcher_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        ValueError: On a mistake in the options, the config, the data or the checkpoint.
        OSError: If a file or the work dir cannot be used.
    """
    args = parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher

    from sparsevit_mm import precision, runs

    runs.set_work_dir(cfg, args.config, args.work_dir)
    if args.amp:
        precision.use_amp(cfg)
    if args.auto_scale_lr:
        runs.scale_lr(cfg)
    if args.sync_bn != 'none':
        cfg.sync_bn = args.sync_bn
    runs.set_resume(cfg, args.resume)
    runs.train(cfg)


if __name__ == '__main__':
    sys.exit(run_tool(main))
