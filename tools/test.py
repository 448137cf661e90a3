"""Test a checkpoint on the test set of its config, of mmdet, mmseg or mmdet3d.

For example:

    python tools/test.py configs/demo/CONFIG.py work_dirs/CONFIG/epoch_12.pth --show-dir pictures
"""

import argparse
import os
import sys
from collections.abc import Sequence

from sparsevit_mm.apis import load_config
from sparsevit_mm.cli import add_config_options, add_launcher_options, run_tool
from sparsevit_mm.predictions import TASKS_3D, draw_predictions, use_tta


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', help='path, or mmdet::..., mmseg::..., mmdet3d::...; stock or ours')
    add('checkpoint', help='weights of exactly this model')
    add('--work-dir', help='folder for logs and metrics (default: work_dirs/NAME_OF_CONFIG)')
    add('--out', help='write the predictions to this .pkl file, or for a segmentor to this folder as label maps')
    add('--show', action='store_true', help='show each prediction in a window')
    add('--show-dir', help='write pictures of the predictions to this folder below the work dir')
    add('--wait-time', type=float, default=2.0, help='seconds that a window stays (default: 2)')
    add('--task', choices=TASKS_3D, default='mono_det', help='what to draw, mmdet3d only (default: mono_det)')
    add('--score-thr', type=float, default=0.1, help='least score of a box to draw, mmdet3d only (default: 0.1)')
    add('--tta', action='store_true', help='test-time augmentation')
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

    from sparsevit_mm import runs

    runs.set_work_dir(cfg, args.config, args.work_dir)
    draw_predictions(cfg, args.show, args.show_dir, args.wait_time, args.task, args.score_thr)
    if args.tta:
        use_tta(cfg)
    runs.evaluate(cfg, args.checkpoint, args.out)


if __name__ == '__main__':
    sys.exit(run_tool(main))
