"""A page in the browser: choose a picture, move sliders, see what is computed, predicted and saved.

For example, with the weights that the quickstart has trained, and with a stock config and random weights:

    python tools/demo_app.py configs/demo/upernet_swin-mini-p4-w7_800i_demo-448x448.py \
        work_dirs/quickstart/adapted/iter_250.pth --settings found=work_dirs/quickstart/search/best_config.py
    python tools/demo_app.py mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py none --images photographs/

It needs Gradio: pip install "sparsevit_mm[demo]". Nothing is sent anywhere, and only this machine sees the page.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from sparsevit_mm.cli import add_config_options, add_model, run_tool
from sparsevit_mm.cost.subjects import parse_sparsity
from sparsevit_mm.demo import example_pictures, load_demo, parse_settings
from sparsevit_mm.extras import require

SLOW = 3.0  # seconds of a forward pass beyond which latencies are only measured when asked for


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add_model(parser)
    add('--images', metavar='DIR', help='folder of pictures to choose from (default: photographs of scikit-image)')
    add(
        '--sparsity',
        metavar='S',
        help='where sliders begin, 0.6 or .6,0,.2,.4,.5,0 with one a site (default: the config, 0.5 if that is dense)',
    )
    add(
        '--settings',
        action='append',
        default=[],
        metavar='NAME=S',
        help='a button for a setting: found=.6,0,.2,.4,.5,0 or found=best_config.py of a search; may be repeated',
    )
    add('--camera', metavar='FILE', help='for monocular 3D: annotation file of mmdet3d, or a JSON file with a matrix')
    add('--score-thr', type=float, metavar='T', help='least score of a box (default: 0.3, in 3D 0.1)')
    add('--rounds', type=int, default=5, metavar='N', help='passes that a median is taken over, 3 or more (default: 5)')
    add('--device', default='cpu', help='cpu or cuda (default: cpu)')
    add(
        '--host', default='127.0.0.1', help='address to listen on; 0.0.0.0 opens it to the network (default: 127.0.0.1)'
    )
    add('--port', type=int, metavar='P', help='port to listen on (default: the first free one from 7860)')
    add_config_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command, until it is interrupted.

    Raises:
        ValueError: On a mistake in the options, the config, the checkpoint or the images, or if the port is in use.
    """
    args = parse_args(argv)
    require('gradio')
    console = Console(soft_wrap=True, highlight=False, markup=False)
    with TemporaryDirectory(prefix='sparsevit_mm_demo_') as folder:
        examples = example_pictures(args.images, Path(folder))
        demo = load_demo(
            args.config,
            args.checkpoint,
            sparsity=None if args.sparsity is None else parse_sparsity(args.sparsity),
            device=args.device,
            cfg_options=args.cfg_options,
            settings=parse_settings(args.settings),
            camera=args.camera,
            score_thr=args.score_thr,
            rounds=args.rounds,
        )
        if not demo.trained:
            console.print('Warning: RANDOM WEIGHTS. No checkpoint is loaded: predictions mean nothing.', style='yellow')
        seconds = demo.try_out(examples[0])
        console.print(f'A forward pass of the whole model takes {seconds:.2f} s.')
        from sparsevit_mm.demo.page import build_page, serve

        names = f'{Path(args.config).name}, {Path(args.checkpoint).name if demo.trained else "no checkpoint"}'
        page = build_page(demo, examples, names, Path(folder) / 'uploads', measure=seconds < SLOW)
        url = serve(page, args.host, args.port, {path.parent for path in examples})
        console.print(f'Open {url} in a browser. Ctrl-C ends it.')
        page.block_thread()


if __name__ == '__main__':
    sys.exit(run_tool(main))
