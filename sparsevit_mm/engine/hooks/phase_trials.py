"""The phases of a training whose ends its validations decide."""

import logging
from bisect import bisect
from collections.abc import Mapping
from typing import Any

from mmengine.dist import broadcast_object_list
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop, Runner

from ...search.metrics import pick_metric
from ..phases import OWNER
from ..trials import TrialPlan, TrialState

__all__ = ['PhaseTrials']

#: Under this key the message hub, and so every checkpoint, says where the phases stand.
STATE = 'sparsity_phases'
ADVICE = 'Train longer, validate more often, or take a larger step.'


class PhaseTrials:
    """Takes the decisions of a plan from the validations of a runner, and keeps them in its checkpoints.

    A checkpoint is saved before the validation of its epoch or iteration, and mmengine does not repeat it in a run that
    is resumed there. So a validation whose decision the checkpoint does not hold is run first.

    Args:
        runner: The runner, in training; checkpoints are loaded by now.
        plan: The phases.

    Raises:
        ValueError: If the runner does not validate, or resumes a run with other phases.
    """

    def __init__(self, runner: Runner, plan: TrialPlan) -> None:
        if runner.val_loop is None:
            raise ValueError(
                f'{OWNER} with tolerance need validations, but the runner has none: give val_dataloader, val_evaluator '
                f'and val_cfg, or phases with a length.'
            )
        self.plan = plan
        self.state: TrialState | None = None
        if (saved := runner.message_hub.get_info(STATE)) is not None:
            self.state = plan.load(saved)
            return
        if plan.options.reference is not None:
            self._keep(runner, plan.begin(plan.options.metric, plan.options.reference, _count(runner)))
        if plan.most_validations > (left := _validations_left(runner)):
            print_log(
                f'{OWNER} need {plan.most_validations} validations if all are within tolerance, but the training has '
                f'{left}: the first sites may stay dense. {ADVICE}',
                'current',
                logging.WARNING,
            )

    @property
    def sparsity(self) -> tuple[float, ...]:
        """What the model is to be trained and validated at."""
        return (0.0,) * len(self.plan.target) if self.state is None else self.state.sparsity

    def catch_up(self, runner: Runner) -> None:
        """Validate what no decision is known of: the dense model at first, or what a killed run left undone."""
        if self.state is None:
            print_log(f'{OWNER}: the dense model is validated first, as the reference.', 'current')
        elif _validates_at(runner, _count(runner)) and self.state.done != _count(runner):
            print_log(f'{OWNER}: the validation before which the run was interrupted comes first.', 'current')
        else:
            return
        runner.val_loop.run()

    def take(self, runner: Runner, metrics: Mapping[str, Any]) -> None:
        """Decide by what a validation gave; all processes by what the first one has.

        Raises:
            ValueError: If the evaluator does not give the metric.
        """
        try:
            name = pick_metric(metrics, self.plan.options.metric)
        except ValueError as error:
            raise ValueError(f'{OWNER}: {error}') from error
        agreed = [float(metrics[name])]
        broadcast_object_list(agreed)
        value, before = agreed[0], self.state
        if before is None:
            self._keep(runner, self.plan.begin(name, value, _count(runner)))
            print_log(f'{OWNER}: {name} of the dense model is {value:.6g}. {self._next()}', 'current')
            return
        self._keep(runner, self.plan.decide(before, value, _count(runner)))
        if not before.is_over:
            print_log(
                f'{OWNER}: {self.plan.layout.sites[before.site]} at {before.trial:g} has {name} {value:.6g}, '
                f'{"within" if self.state.history[-1]["accepted"] else "out of"} the tolerance of '
                f'{self.plan.options.tolerance:g} to {before.reference:.6g}. '
                f'{self._next()}',
                'current',
            )

    def _keep(self, runner: Runner, state: TrialState) -> None:
        self.state = state
        runner.message_hub.update_info(STATE, self.plan.dump(state))

    def _next(self) -> str:
        if self.state.is_over:
            return f'That was the last phase; the sparsity is {self._describe()}.'
        return f'Next is {self.plan.layout.sites[self.state.site]} at {self.state.trial:g}.'

    def _describe(self) -> str:
        return ', '.join(f'{site} {value:g}' for site, value in zip(self.plan.layout.sites, self.state.accepted))

    def finish(self, runner: Runner) -> tuple[float, ...]:
        """The sparsity that was found, when training is over."""
        state, sites, doubt = self.state, self.plan.layout.sites, None
        if not state.is_over:
            doubt = f'Training ended in the phase of {sites[state.site]}, the rest might have become sparser.'
        elif self.plan.is_merged(state) and state.history[-1]['done'] == _count(runner):
            doubt = 'Neighbours were merged after the last validation, the model was not trained so.'
        if doubt:
            print_log(f'{OWNER}: {doubt} {ADVICE}', 'current', logging.WARNING)
        print_log(f'{OWNER}: the sparsity found is {self._describe()}.', 'current')
        return state.accepted


def _count(runner: Runner) -> int:
    """Epochs or iterations that are done, whichever the loop counts."""
    return runner.iter if isinstance(runner.train_loop, IterBasedTrainLoop) else runner.epoch


def _whole(runner: Runner) -> int:
    return runner.max_iters if isinstance(runner.train_loop, IterBasedTrainLoop) else runner.max_epochs


def _validates_at(runner: Runner, count: int) -> bool:
    """Whether the loop validates when so much is done, by the rule of mmengine's loops."""
    loop = runner.train_loop
    interval = loop.dynamic_intervals[bisect(loop.dynamic_milestones, count + 1) - 1]
    return count > 0 and count >= loop.val_begin and (count % interval == 0 or count == _whole(runner))


def _validations_left(runner: Runner) -> int:
    return sum(_validates_at(runner, count) for count in range(_count(runner) + 1, _whole(runner) + 1))
