"""Draw what a sparse backbone computes of images: pictures of each, a contact sheet of all, a video of a folder.

For example, with the weights of a trained stock model made sparse:

    python tools/visualize_sparsity.py mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py mask_rcnn_swin-t.pth \
        street.jpg --sparsity .6,0,.2,.4,.5,0 --out work_dirs/pictures
    python tools/visualize_sparsity.py CONFIG CHECKPOINT street.jpg park.jpg --contact-sheet sheet.png
    python tools/visualize_sparsity.py CONFIG CHECKPOINT frames/ --video drive.mp4 --fps 15
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from sparsevit_mm.apis import load_sparse_model
from sparsevit_mm.cli import add_config_options, add_model, run_tool
from sparsevit_mm.cost.subjects import parse_sparsity
from sparsevit_mm.files import list_images
from sparsevit_mm.visualization import (
    HEAT,
    ImageReader,
    Inspector,
    VideoFile,
    check_rows,
    check_video,
    check_writable,
    draw_selection,
    make_contact_sheet,
    make_video,
    save_picture,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add_model(parser)
    add('images', nargs='+', metavar='IMAGE', help='image files, or folders of images')
    add('--out', type=Path, metavar='DIR', help='a folder for pictures of every site; each image gets a folder in it')
    add(
        '--contact-sheet',
        type=Path,
        metavar='PNG',
        help='one picture with a row for each image: what is computed, dense and sparse prediction, what changes',
    )
    add('--video', type=Path, metavar='MP4', help='a video with a frame for each image, in the order given')
    add('--fps', type=float, default=10.0, help='frames a second of the video (default: 10)')
    add('--overlay', default=HEAT, metavar='SITE', help='what the video shows of: one site (default: all of them)')
    add(
        '--sparsity',
        metavar='S',
        help="0.6 for all sites, or .6,0,.2,.4,.5,0 with one a site (default: the config's own)",
    )
    add('--score-thr', type=float, default=0.3, help='least score of an object that is drawn (default: 0.3)')
    add('--device', default='cpu', help='cpu or cuda (default: cpu)')
    add_config_options(parser)
    return parser.parse_args(argv)


def check_args(args: argparse.Namespace, images: Sequence[Path]) -> None:
    """Looks at what can be wrong before a model is built.

    Raises:
        ValueError: If there is nothing to make, or an option does not fit.
        OSError: If an output cannot be written.
    """
    if not (args.out or args.contact_sheet or args.video):
        raise ValueError('say what to make: --out DIR, --contact-sheet PNG, --video MP4, or several of them.')
    if not 0 <= args.score_thr <= 1:
        raise ValueError(f'--score-thr must be in [0, 1], got {args.score_thr:g}.')
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    if args.video:
        check_video(args.video, args.fps)
    if args.contact_sheet:
        check_rows(len(images))
        if args.contact_sheet.suffix.lower() != '.png':
            raise ValueError(f'--contact-sheet must be a .png file, got {str(args.contact_sheet)!r}.')
        check_writable(args.contact_sheet)


def load_inspector(args: argparse.Namespace, console: Console) -> Inspector:
    """The sparse model with what reads images for it.

    Raises:
        ValueError: On a mistake in the options or the config, or if the checkpoint does not fit.
    """
    if args.checkpoint is None:
        console.print(
            'Warning: RANDOM WEIGHTS. No checkpoint is loaded, so the pictures do not show what a trained model skips.',
            style='bold yellow',
        )
    sparsity = None if args.sparsity is None else parse_sparsity(args.sparsity)
    cfg, model = load_sparse_model(
        args.config, args.checkpoint, sparsity, device=args.device, cfg_options=args.cfg_options
    )
    inspector = Inspector(model, ImageReader(cfg, model), args.score_thr)
    if inspector.backbone.counts == 'fixed' and not any(inspector.backbone.sparsity):
        console.print('Note: the sparsity is 0 at every site, so nothing is skipped. Choose another by --sparsity.')
    return inspector


@torch.no_grad()
def draw_folders(inspector: Inspector, images: Iterable[Path], out: Path, console: Console) -> None:
    """Pictures of every site, a folder an image.

    Raises:
        ValueError: If a file is no image.
        OSError: If the folder cannot be written.
    """
    if (getattr(inspector.model, 'test_cfg', None) or {}).get('mode') == 'slide':
        console.print('Note: this model is tested on sliding crops; --out shows the image in one piece.')
    backbone, folders = inspector.backbone, []
    for path in images:
        item = inspector.read(path)
        with backbone.record_selections() as records:
            backbone(item.tensor)
        pictures = draw_selection(
            item.picture,
            records,
            input_size=item.size,
            sparsity=dict(zip(backbone.sites, backbone.sparsity)),
            title=path.name,
        )
        folders.append(_new_folder(out, path.stem, folders))
        pictures.save(folders[-1])
        console.print(f'{path} -> {folders[-1] / "overview.png"}')
    console.print(f'Each of {len(folders)} folder(s) holds overview.png, heat_map.png and a picture for each site.')


def _new_folder(out: Path, name: str, taken: list[Path]) -> Path:
    """A folder of its own for each image of this run, also for files of the same name."""
    folder, number = out / name, 2
    while folder in taken:
        folder, number = out / f'{name}_{number}', number + 1
    return folder


def film(inspector: Inspector, images: Iterable[Path], args: argparse.Namespace, console: Console) -> None:
    """The video.

    Raises:
        ValueError: If none of the files is an image, there is no such site, or OpenCV cannot encode it.
        OSError: If the file cannot be written.
    """
    with VideoFile(args.video, args.fps) as video:
        make_video(
            inspector,
            images,
            video,
            args.overlay,
            lambda error: console.print(f'Warning: {error} It is left out of the video.', style='bold yellow'),
        )
    if video.path != args.video:
        console.print(f'Note: OpenCV here has no encoder for {args.video.suffix}, so the video is Motion JPEG.')
    console.print(f'{video.frames} frame(s) -> {video.path}')


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        ValueError: On a mistake in the options, the config, the checkpoint or the images.
        OSError: If an output cannot be written.
    """
    args = parse_args(argv)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    images = list_images(args.images)
    check_args(args, images)
    inspector = load_inspector(args, console)

    def counted(what: str) -> Iterable[Path]:
        return track(images, what, console=console, transient=True, disable=not console.is_terminal)

    if args.out:
        draw_folders(inspector, counted('pictures'), args.out, console)
    if args.contact_sheet:
        sheet = make_contact_sheet(inspector, counted('contact sheet'), Path(args.config).stem)
        save_picture(sheet, args.contact_sheet)
        console.print(f'{len(images)} image(s) -> {args.contact_sheet}')
    if args.video:
        film(inspector, counted('video'), args, console)


if __name__ == '__main__':
    sys.exit(run_tool(main))
