import logging

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger('mmengine').setLevel(logging.ERROR)


def randomize(module: nn.Module, scale: float = 0.05) -> nn.Module:
    """Adds noise to all parameters, so that norms, biases and bias tables are not at their starting values."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += scale * torch.randn_like(parameter)
    return module
