"""Draw which windows a sparse backbone computes of an image: a picture for each site, and all of them together.

For example, with the weights of a trained stock model made sparse:

    python tools/visualize_sparsity.py mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py mask_rcnn_swin-t.pth \
        street.jpg --sparsity .6,0,.2,.4,.5,0 --out work_dirs/pictures
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from sparsevit_mm.apis import build_model, drop_pretrained, init_scope, load_config, sparsify_config
from sparsevit_mm.cli import add_config_options, run_tool
from sparsevit_mm.cost.subjects import parse_sparsity
from sparsevit_mm.models import find_sparse_backbone
from sparsevit_mm.visualization import ImageReader, draw_selection, list_images


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', metavar='CONFIG', help='path, or mmdet::..., mmseg::..., mmdet3d::...; stock or ours')
    add('checkpoint', metavar='CHECKPOINT', help="weights, or 'none' for random ones")
    add('images', nargs='+', metavar='IMAGE', help='image files, or folders of images')
    add('--out', type=Path, required=True, metavar='DIR', help='folder to write to; each image gets a folder in it')
    add(
        '--sparsity',
        metavar='S',
        help="0.6 for all sites, or .6,0,.2,.4,.5,0 with one a site (default: the config's own)",
    )
    add('--device', default='cpu', help='cpu or cuda (default: cpu)')
    add_config_options(parser)
    return parser.parse_args(argv)


def load_model(args: argparse.Namespace, console: Console) -> tuple[nn.Module, ImageReader]:
    """The sparse model, and what reads images for it.

    Raises:
        ValueError: On a mistake in the options or the config, or if the checkpoint does not fit.
    """
    cfg = load_config(args.config, args.cfg_options)
    if args.sparsity is not None:
        cfg = sparsify_config(cfg, parse_sparsity(args.sparsity))
    drop_pretrained(cfg)
    init_scope(cfg)
    checkpoint = None if args.checkpoint.lower() == 'none' else args.checkpoint
    if checkpoint is None:
        console.print(
            'Warning: RANDOM WEIGHTS. No checkpoint is loaded, so the pictures do not show what a trained model skips.',
            style='bold yellow',
        )
    model = build_model(cfg, checkpoint, args.device)
    if (model_cfg := cfg.model.get('test_cfg')) and model_cfg.get('mode') == 'slide':
        console.print('Note: this model is tested on sliding crops; the pictures show the image in one piece.')
    return model, ImageReader(cfg, model)


@torch.no_grad()
def visualize(args: argparse.Namespace, console: Console) -> list[Path]:
    """Draw all images; returns the folders written.

    Raises:
        ValueError: On a mistake in the options, the config or the images.
        OSError: If the output folder cannot be written.
    """
    images = list_images(args.images)
    args.out.mkdir(parents=True, exist_ok=True)
    model, read = load_model(args, console)
    try:
        backbone = find_sparse_backbone(model)
    except ValueError as error:
        raise ValueError(f'{error} Or give --sparsity, which makes a stock config with a Swin sparse.') from error
    if not any(backbone.sparsity):
        console.print('Note: the sparsity is 0 at every site, so nothing is skipped. Choose another by --sparsity.')
    folders = []
    for path in track(images, 'drawing', console=console, transient=True, disable=not console.is_terminal):
        item = read(path)
        with backbone.record_selections() as records:
            backbone(item.tensor)
        pictures = draw_selection(
            item.picture,
            records,
            input_size=item.size,
            sparsity=dict(zip(backbone.sites, backbone.sparsity)),
            title=path.name,
        )
        folders.append(_new_folder(args.out, path.stem, folders))
        pictures.save(folders[-1])
        console.print(f'{path} -> {folders[-1] / "overview.png"}')
    return folders


def _new_folder(out: Path, name: str, taken: list[Path]) -> Path:
    """A folder of its own for each image of this run, also for files of the same name."""
    folder, number = out / name, 2
    while folder in taken:
        folder, number = out / f'{name}_{number}', number + 1
    return folder


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        ValueError: On a mistake in the options, the config, the checkpoint or the images.
        OSError: If the output folder cannot be written.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False)
    folders = visualize(parse_args(argv), console)
    console.print(f'Each of {len(folders)} folder(s) holds overview.png, heat_map.png and a picture for each site.')


if __name__ == '__main__':
    sys.exit(run_tool(main))
