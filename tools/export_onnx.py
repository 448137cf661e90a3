"""Write a sparse model as an ONNX file that computes only what is kept, and check it against the model.

For example, the found sparsity of a segmentor, its class scores for images of 512x512:

    python tools/export_onnx.py work_dirs/search/best_config.py work_dirs/train/iter_160000.pth \
        --out swin-t.onnx --shape 512 512

Segmentors give class scores at the size of the images, detectors the maps of their neck.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from rich.console import Console
from torch import Tensor

from sparsevit_mm.apis import load_sparse_model
from sparsevit_mm.cli import add_config_options, add_model, run_tool
from sparsevit_mm.cost import count_macs
from sparsevit_mm.cost.conditions import check_image_shape, check_threads
from sparsevit_mm.cost.images import load_batches, load_photographs
from sparsevit_mm.cost.subjects import parse_sparsity
from sparsevit_mm.deploy.onnx_check import check_graph
from sparsevit_mm.deploy.onnx_export import DEFAULT_OPSET, check_opset, drop_outputs, make_onnx, save_onnx
from sparsevit_mm.deploy.onnx_run import OnnxSession
from sparsevit_mm.deploy.parts import ModelPart, describe, part_of
from sparsevit_mm.files import list_images
from sparsevit_mm.pipelines import input_shape

MOST_IMAGES = 8


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add_model(parser)
    add('--out', type=Path, required=True, metavar='FILE', help='the file to write')
    add('--sparsity', metavar='S', help="0.6 for all sites, or .6,0,.2,.4,.5,0 (default: the config's own)")
    add(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='pixels (default: what the config tests on)',
    )
    add('--dynamic-batch', action='store_true', help='take any number of images at once (default: one)')
    add('--backbone-only', action='store_true', help='leave out neck and head')
    add('--selections', action='store_true', help='also give the indices of what each block keeps')
    add('--opset', type=int, default=DEFAULT_OPSET, help=f'of ONNX, 18 to 23 (default: {DEFAULT_OPSET})')
    add('--images', nargs='+', metavar='PATH', help="files or folders to check on (default: scikit-image's pictures)")
    add('--no-check', dest='check', action='store_false', help='do not run the file with ONNX Runtime')
    add('--threads', type=int, help="threads of the check (default: torch's)")
    add_config_options(parser)
    return parser.parse_args(argv)


def export(args: argparse.Namespace, console: Console) -> int:
    """Write the file; 1 if it does not compute what the model does, and was not written.

    Raises:
        ValueError: On a mistake in the options, the config, the checkpoint or the images.
        OSError: If the file cannot be written.
    """
    sparsity = None if args.sparsity is None else parse_sparsity(args.sparsity)
    if args.checkpoint is None:
        console.print('Warning: RANDOM WEIGHTS. No checkpoint is loaded.', style='bold yellow')
    cfg, model = load_sparse_model(args.config, args.checkpoint, sparsity, cfg_options=args.cfg_options)
    shape = check_image_shape(args.shape or input_shape(cfg))
    batches = _images(args, shape, cfg) if args.check else []
    kind = 'backbone' if args.backbone_only else part_of(model)
    part = ModelPart(model, kind, selections=args.check or args.selections).eval()
    example = batches[0] if batches else torch.randn(1, 3, *shape)
    names = part.output_names(example)
    graph = make_onnx(
        part,
        example,
        names,
        opset=args.opset,
        dynamic_batch=args.dynamic_batch,
        metadata=describe(model, cfg, args.config) | {'sparsevit_mm.macs': str(count_macs(part.backbone, shape))},
    )
    if args.check and not _checked(args, part, graph, batches, console):
        return 1
    if not args.selections:
        drop_outputs(graph, [name for name in names if name.startswith('kept.')])
    save_onnx(graph, args.out)
    images = f'{"batch" if args.dynamic_batch else 1}x3x{shape[0]}x{shape[1]}'
    outputs = ', '.join(output.name for output in graph.graph.output)
    size = args.out.stat().st_size / 1e6
    console.print(f'Written to {args.out}: {size:.1f} MB, opset {args.opset}, images {images} to {outputs}')
    return 0


def _images(args: argparse.Namespace, shape: tuple[int, int], cfg: Config) -> list[Tensor]:
    """What to check on."""
    preprocessor = cfg.model.get('data_preprocessor')
    if args.images is None:
        return load_photographs(shape, preprocessor)
    return load_batches(list_images(args.images)[:MOST_IMAGES], shape, 1, preprocessor)


def _checked(
    args: argparse.Namespace, part: ModelPart, graph: object, batches: Sequence[Tensor], console: Console
) -> bool:
    """Whether a graph passes the check, and says so."""
    if args.dynamic_batch and len(batches) > 1:
        batches = [*batches[:-2], torch.cat(list(batches[-2:]))]
    found = check_graph(part, OnnxSession(graph, args.threads), batches)
    console.print(found.sentence(), style=None if found.passed else 'bold red')
    if not found.passed:
        console.print(f'{args.out} is not written. With --no-check it is, if you know better.', style='bold red')
    return found.passed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status.

    Raises:
        ValueError: On a mistake in the options, the config, the checkpoint or the images.
        OSError: If the file cannot be written.
    """
    args = parse_args(argv)
    check_opset(args.opset)
    check_threads(args.threads)
    if args.out.is_dir():
        raise ValueError(f'--out {args.out} is a folder: name the file to write, such as {args.out / "model.onnx"}.')
    torch.manual_seed(0)
    return export(args, Console(soft_wrap=True, highlight=False, markup=False))


if __name__ == '__main__':
    sys.exit(run_tool(main))
