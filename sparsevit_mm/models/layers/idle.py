import torch
from torch import Tensor, nn

__all__ = ['keep_in_graph']


def keep_in_graph(x: Tensor, *modules: nn.Module) -> Tensor:
    """``x``, with parameters of modules that did not run in its graph at weight zero.

    Data-parallel training waits for a gradient of every parameter; a selector whose site is dense at this step would
    leave it waiting. Nothing changes in evaluation.
    """
    if not torch.is_grad_enabled():
        return x
    idle = [p.sum() for module in modules if module.training for p in module.parameters() if p.requires_grad]
    return x + 0 * sum(idle).to(x.dtype) if idle else x
