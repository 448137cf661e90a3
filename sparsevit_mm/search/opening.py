"""Taking up a study that is in a storage: whether it is the same one, and what lost processes left behind."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .fingerprint import differences

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ['end_lost_trials', 'find_study']


def find_study(
    storage: 'BaseStorage',
    name: str,
    identity: Mapping[str, Any],
    *,
    resume: bool,
    alone: bool,
    accompanied: bool,
    shown: str,
) -> 'Study | None':
    """The study of a name, where there is one that may be gone on with.

    Other processes that are at it just now are joined. One that holds no result and that nobody is at is of no worth
    to anyone; where it belongs to another configuration, or was never set up to the end, it makes way.

    Args:
        storage: Where to look.
        name: Name of the study.
        identity: What is searched, compared with what the study was begun with.
        resume: Whether the user wants to go on with results that are there.
        alone: Whether no other process can be at the study.
        accompanied: Whether another process is known to be; on a server that is seen by what it is at.
        shown: The storage for messages.

    Raises:
        ValueError: If the study is another one, or not to be resumed.
    """
    import optuna

    if name not in optuna.get_all_study_names(storage):
        return None
    study = optuna.load_study(study_name=name, storage=storage)
    trials = end_lost_trials(study, all_of_them=alone)
    complete = [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
    finished = sum(not trial.user_attrs.get('reference', False) for trial in complete)
    busy = accompanied or any(trial.state == optuna.trial.TrialState.RUNNING for trial in trials)
    found = f'storage {shown} holds a study {name!r} with {finished} evaluations'
    different = differences(study.user_attrs.get('fingerprint', {}), identity)
    if (different or not study.user_attrs.get('ready')) and not complete and not busy:
        optuna.delete_study(study_name=name, storage=storage)
        return None
    if different:
        listed = '; '.join(different[:5]) + (f'; and {len(different) - 5} more' if len(different) > 5 else '')
        raise ValueError(
            f'{found} of another configuration: {listed}. Search as the study did, or give another work dir, storage '
            f'or study name.'
        )
    if complete and not resume and not busy:
        raise ValueError(f'{found}. Give --resume to go on with it, or another work dir, storage or study name.')
    return study


def end_lost_trials(study: 'Study', *, all_of_them: bool = False) -> 'list[FrozenTrial]':
    """Ends the trials whose process is gone, so that their settings can be taken up again.

    Call it under the lock for asking: a trial is made, given a sign of life and signed by its worker within that, so
    one without a signature was left by a process that died in between.

    Args:
        study: A study.
        all_of_them: Whether no process is at the study, so that whatever runs is lost; otherwise what has been
            silent for longer than the storage's grace period.

    Returns:
        All trials. Reading them is most of what asking costs where many processes are at a study: it is done once.
    """
    import optuna
    from optuna.trial import TrialState

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    trials = study.get_trials(deepcopy=False)
    running = (trial for trial in trials if trial.state == TrialState.RUNNING)
    lost = [trial for trial in running if all_of_them or 'worker' not in trial.user_attrs]
    for trial in lost:
        study.tell(trial.number, state=TrialState.FAIL)
    return study.get_trials(deepcopy=False) if lost else trials
