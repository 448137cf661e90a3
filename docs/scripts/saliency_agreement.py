"""How far the saliency map of a trained ViT stays what it was, against the share of tokens that is left out.

Needs data/dinov2_vits14 (a DINOv2 ViT-S/14 fine-tuned for saliency, with its decoder) and images. Nothing is trained:
selectors are class attention, magnitude and chance. Writes a figure and the numbers behind it:

    python docs/scripts/saliency_agreement.py data/dinov2_vits14 data/coco_mini/val2017 --out docs/images
"""

import argparse
import json
import platform
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor, nn

from sparsevit_mm.cost import count_macs
from sparsevit_mm.models import PrunedViT
from sparsevit_mm.models.checkpoints import read_checkpoint, state_of

SELECTORS = {'ClassAttentionSelector': 'class attention', 'MagnitudeSelector': 'magnitude', 'RandomSelector': 'chance'}
RHOS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
SIDE = 518
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


class SaliencyDecoder(nn.Module):
    """Three transposed convolutions that double the map, and one that reduces it to a saliency in [0, 1]."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        state = {key: value.float() for key, value in state_of(read_checkpoint(weights), weights).items()}
        for i in (1, 2, 3):
            given, made = state[f'upconv{i}.weight'].shape[:2]
            self.add_module(f'upconv{i}', nn.ConvTranspose2d(given, made, 4, stride=2, padding=1))
            self.add_module(f'bn{i}', nn.BatchNorm2d(made))
        self.final_conv = nn.Conv2d(made, 1, 1)
        self.load_state_dict(state, strict=False)
        self.eval()

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """``[B, C, H', W'] -> [B, 1, H, W]``."""
        for i in (1, 2, 3):
            features = F.relu(getattr(self, f'bn{i}')(getattr(self, f'upconv{i}')(features)))
        maps = F.interpolate(self.final_conv(features), size=size, mode='bilinear', align_corners=False)
        return maps.sigmoid()


def build_vit(weights: Path, selector: str, **options: object) -> PrunedViT:
    """The trained ViT-S/14 with a selector that needs no training."""
    model = PrunedViT(
        img_size=SIDE,
        patch_size=14,
        embed_dims=384,
        num_heads=6,
        patch_bias=True,
        final_norm=True,
        layer_scale_init_value=1e-5,
        norm_cfg=dict(type='LN', eps=1e-6),
        selector=dict(type=f'sparsevit_mm.{selector}'),
        init_cfg=dict(type='Pretrained', checkpoint=str(weights)),
        **options,
    )
    model.init_weights()
    return model.eval()


def read_image(path: Path) -> Tensor:
    """``[1, 3, 518, 518]``, normalised."""
    picture = cv2.resize(cv2.imread(str(path))[..., ::-1], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return torch.from_numpy((picture / np.float32(255) - MEAN) / STD).permute(2, 0, 1)[None].float()


@torch.no_grad()
def agreement(weights: Path, images: list[Path]) -> dict[str, list[dict[str, float]]]:
    """Mean absolute difference to the dense map, and IoU of the two at 0.5, for each selector and keep ratio."""
    decoder = SaliencyDecoder(next(weights.glob('saliency_decoder*.safetensors')))
    backbone = next(weights.glob('dinov2*.safetensors'))
    models = {selector: build_vit(backbone, selector) for selector in SELECTORS}
    sums = {selector: np.zeros((len(RHOS), 2)) for selector in SELECTORS}
    dense_macs = count_macs(next(iter(models.values())), (SIDE, SIDE))
    for path in track(images, 'images'):
        image = read_image(path)
        for selector, model in models.items():
            model.sparsity = 0.0
            dense = decoder(model(image)[0], (SIDE, SIDE))
            for i, rho in enumerate(RHOS):
                model.sparsity = (1 - rho, 1 - rho**2, 1 - rho**3)
                pruned = decoder(model(image)[0], (SIDE, SIDE))
                both, either = ((dense > 0.5) & (pruned > 0.5)).sum(), ((dense > 0.5) | (pruned > 0.5)).sum()
                sums[selector][i] += ((dense - pruned).abs().mean().item(), (both / either.clamp(min=1)).item())
    rows: dict[str, list[dict[str, float]]] = {}
    for selector, model in models.items():
        rows[selector] = []
        for i, rho in enumerate(RHOS):
            model.sparsity = (1 - rho, 1 - rho**2, 1 - rho**3)
            difference, iou = sums[selector][i] / len(images)
            macs = count_macs(model, (SIDE, SIDE)) / dense_macs
            rows[selector].append(dict(keep_ratio=rho, macs_of_dense=macs, difference=difference, iou=iou))
    return rows


def draw(rows: dict[str, list[dict[str, float]]], count: int, path: Path) -> None:
    """IoU against the MACs that are saved."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), dpi=120, layout='constrained')
    axes = figure.subplots()
    for (selector, name), marker, colour in zip(SELECTORS.items(), 'osD', ('#0072B2', '#E69F00', '#666666')):
        saved = [0, *(100 * (1 - row['macs_of_dense']) for row in rows[selector])]
        axes.plot(saved, [1, *(row['iou'] for row in rows[selector])], marker=marker, color=colour, label=name)
    axes.set(
        xlabel='MACs saved [%]',
        ylabel='IoU with the dense saliency map',
        ylim=(0, 1.03),
        title=f'ViT-S/14, nothing trained, {count} images',
    )
    axes.grid(alpha=0.3)
    axes.legend(title='tokens stay by')
    figure.savefig(path)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('weights', type=Path, help='folder with the ViT and its decoder')
    parser.add_argument('images', type=Path, help='folder of images')
    parser.add_argument('--count', type=int, default=40, help='images to use, the first ones by name (default: 40)')
    parser.add_argument('--out', type=Path, required=True, help='folder to write to')
    args = parser.parse_args()
    images = sorted(args.images.glob('*.jpg'))[: args.count]
    if not images:
        parser.error(f'{args.images} holds no .jpg images')
    rows = agreement(args.weights, images)
    environment = dict(torch=torch.__version__, platform=platform.machine(), images=len(images), side=SIDE)
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dict(environment=environment, selectors=rows), indent=1)
    (args.out / 'saliency_agreement.json').write_text(text + '\n')
    draw(rows, len(images), args.out / 'saliency_agreement.png')


if __name__ == '__main__':
    main()
