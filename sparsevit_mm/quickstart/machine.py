"""How this machine trains fastest."""

import time
from dataclasses import dataclass

import torch
from torch import nn

__all__ = ['MachineSettings', 'fastest_settings']


@dataclass(frozen=True)
class MachineSettings:
    """What the steps of a quickstart run with.

    Args:
        threads: Intra-op threads of torch.
        bfloat16: Whether to train in bfloat16.
    """

    threads: int
    bfloat16: bool


def fastest_settings(backbone: nn.Module, images: torch.Tensor) -> MachineSettings:
    """Tries one thread and all of them, with and without bfloat16, by a few training steps of a backbone.

    Newer CPUs take half the time in bfloat16, others a multiple. And where cores are shared with other work, or
    virtual, threads that wait for each other can be many times slower than one alone.

    Args:
        backbone: Returns a sequence of feature maps.
        images: A batch ``[B, 3, H, W]``.
    """
    before = torch.get_num_threads()
    settings = [MachineSettings(threads, bfloat16) for threads in {1, before} for bfloat16 in (True, False)]
    try:
        seconds = {setting: _seconds(backbone, images, setting) for setting in settings}
    finally:
        torch.set_num_threads(before)
    return min(seconds, key=seconds.__getitem__)


def _seconds(backbone: nn.Module, images: torch.Tensor, setting: MachineSettings) -> float:
    """Of the second and third step together; the first one warms up."""
    torch.set_num_threads(setting.threads)
    for step in range(3):
        if step == 1:
            start = time.perf_counter()
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=setting.bfloat16):
            loss = sum(feature.float().mean() for feature in backbone(images))
        loss.backward()
        backbone.zero_grad()
    return time.perf_counter() - start
