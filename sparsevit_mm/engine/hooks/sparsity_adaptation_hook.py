"""Sparsity-aware adaptation: train one set of weights for every sparsity that a search may ask for."""

import random
from collections.abc import Sequence

from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from ...models import find_sparse_backbone
from ...registry import HOOKS
from ...sparsity import DEFAULT_CHOICES, SparsityLayout, SparsitySpace

__all__ = ['SparsityAdaptationHook']


@HOOKS.register_module()
class SparsityAdaptationHook(Hook):
    """Trains every iteration at a sparsity drawn at random (SparseViT, arXiv 2303.17605).

    Weights trained this way rank candidate sparsities without training each of them, which is what a
    search needs. A draw is uniform over all vectors that the space allows: one choice a site,
    non-decreasing within a stage. The released code draws every site by itself, which visits other
    vectors more often than some.

    The draw belongs to the iteration: it is a function of the seed and the iteration's number alone, so
    every rank has the same, a resumed run continues the sequence of an uninterrupted one, and no other
    random generator moves. Between iterations the model is at its own sparsity, the one it was
    configured with. Validation, checkpoints and the model that training returns know only that one.

    The drawn sparsity, averaged over the sites, is logged as ``train/sparsity``.

    Args:
        choices: Values in [0, 1) that a site may take.
        interval: Number of iterations that share a draw. Set it to the ``accumulative_counts`` of the
            optimizer wrapper to give the parts of one accumulated step the same sparsity.
        seed: Seed of the draws. None takes the runner's, which mmengine keeps in checkpoints.

    Raises:
        ValueError: If the choices are empty, repeat or leave [0, 1), if the interval is no positive
            integer, and, when training starts, if the model has no sparse backbone.
    """

    def __init__(self, choices: Sequence[float] = DEFAULT_CHOICES, interval: int = 1, seed: int | None = None) -> None:
        if not isinstance(choices, Sequence) or isinstance(choices, str):
            raise ValueError(f'choices must be a sequence of values in [0, 1), got {choices!r}.')
        if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
            raise ValueError(f'interval must be a positive number of iterations, got {interval!r}.')
        # A space without sites checks the choices before there is a model.
        self.choices = SparsitySpace(SparsityLayout((), ()), tuple(choices)).choices
        self.interval = interval
        self.seed = seed

    def before_train(self, runner: Runner) -> None:
        """Find the backbone and agree on the seed; checkpoints are loaded by now."""
        self._backbone = find_sparse_backbone(runner.model)
        self._space = self._backbone.sparsity_space(self.choices)
        # The runner's seed differs between ranks under diff_rank_seed: rank 0 decides.
        seed = [runner.seed if self.seed is None else self.seed]
        broadcast_object_list(seed)
        self._seed = seed[0]
        print_log(
            f'Each iteration draws one of {len(self._space):,} sparsities (seed {self._seed}); validation and the '
            f'finished model are at {self._backbone.sparsity}.',
            logger='current',
        )

    def draw(self, iteration: int) -> tuple[float, ...]:
        """The sparsity of a training iteration, counted from 0; known once training has started."""
        return self._space.sample(random.Random(f'{self._seed}-{iteration // self.interval}'))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None) -> None:
        """Set the draw of this iteration."""
        self._own_sparsity = self._backbone.sparsity
        drawn = self.draw(runner.iter)
        self._backbone.sparsity = drawn
        runner.message_hub.update_scalar('train/sparsity', sum(drawn) / len(drawn))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None, outputs: dict | None = None
    ) -> None:
        """Give the model its own sparsity back, before anything validates or copies it."""
        self._backbone.sparsity = self._own_sparsity
