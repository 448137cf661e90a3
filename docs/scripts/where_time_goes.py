"""Where the time of a backbone goes, as the table of docs/performance.md.

    python docs/scripts/where_time_goes.py mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py --sparsity 0 0.6

Operators are timed by torch's profiler on noise, in evaluation without gradients, and summed by what they are for.
Profiling makes each of them some microseconds longer.
"""

import argparse
from collections import Counter

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from sparsevit_mm.cost.conditions import DTYPES, fixed_threads, measuring, random_images
from sparsevit_mm.cost.latency import forward_call
from sparsevit_mm.cost.subjects import load_subject, parse_sparsity

PARTS = {
    'linear layers': ('_linear_pointwise', 'addmm', 'mm', 'linear'),
    'attention': ('bmm', 'baddbmm', '_softmax', '_scaled_dot_product_flash_attention_for_cpu'),
    'convolutions': ('mkldnn_convolution', '_slow_conv2d_forward', 'im2col'),
    'norms': ('native_layer_norm',),
    'activations': ('gelu', 'relu', 'mul'),
    'gathering and writing rows': ('index_select', 'index_copy_', 'index', 'gather'),
    'copies, casts and padding': ('copy_', 'cat', 'fill_', 'constant_pad_nd', 'clone'),
    'sums': ('add', 'add_', 'sum'),
    'weights into order': ('_reorder_linear_weight',),
    'scores and ranking': ('sort', 'argsort', 'abs', 'linalg_vector_norm', 'topk'),
}


def time_by_part(call, runs: int = 3) -> Counter[str]:
    """Seconds of one call by part."""
    call()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(runs):
            call()
    parts = {name: part for part, names in PARTS.items() for name in names}
    times: Counter[str] = Counter()
    for event in recorded.key_averages():
        name = event.key.rpartition('::')[2]
        times[parts.get(name, 'all else')] += event.self_cpu_time_total / runs / 1e6
    return times


def columns(args: argparse.Namespace) -> dict[str, Counter[str]]:
    """Times of stock, and of ours at each sparsity."""
    subject = load_subject(args.config, [parse_sparsity(text) for text in args.sparsity])

    def measured(backbone: nn.Module) -> Counter[str]:
        with measuring(backbone):
            images = random_images(backbone, tuple(args.shape), batch=args.batch)
            return time_by_part(forward_call(backbone, images, args.dtype))

    found = {'stock': measured(subject.stock)}
    for text, sparsity in zip(args.sparsity, subject.sparsities):
        subject.sparse.sparsity = sparsity
        found[f'ours, {text}'] = measured(subject.sparse)
    return found


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('--sparsity', nargs='+', default=['0', '0.6'], metavar='S')
    parser.add_argument('--shape', nargs=2, type=int, default=(800, 1344), metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--dtype', choices=DTYPES, default='float32')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    with fixed_threads(args.threads):
        found = columns(args)
    print(f'| ms | {" | ".join(found)} |')
    print(f'|---|{"--:|" * len(found)}')
    for part in (*PARTS, 'all else'):
        cells = [f'{times[part] * 1e3:.1f}' for times in found.values()]
        if any(float(cell) for cell in cells):
            print(f'| {part} | {" | ".join(cells)} |')
    print(f'| **sum** | {" | ".join(f"{sum(times.values()) * 1e3:.0f}" for times in found.values())} |')


if __name__ == '__main__':
    main()
