"""What several hooks need to know about a run."""

from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

__all__ = ['progress', 'unwrap']


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside the wrappers of distributed training."""
    while is_model_wrapper(model):
        model = model.module
    return model


def progress(runner: Runner, by_epoch: bool, owner: str) -> int:
    """Iterations or epochs that are done.

    Args:
        runner: The runner, in training.
        by_epoch: Whether to count epochs.
        owner: Name of the hook that asks, for the message.

    Raises:
        ValueError: If epochs are to be counted in a loop that has none.
    """
    if by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
        raise ValueError(
            f'{owner} has by_epoch=True, but the training loop counts iterations and no epochs: set by_epoch=False '
            f'and give numbers of iterations.'
        )
    return runner.epoch if by_epoch else runner.iter
