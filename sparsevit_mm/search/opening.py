"""Taking up a study that is in a storage: whether it is the same one, and what a lost process left behind."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .storage import differences

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ['find_study', 'run_again', 'settle_lost_trials']


def find_study(
    storage: 'BaseStorage', name: str, identity: Mapping[str, Any], *, resume: bool, alone: bool, shown: str
) -> 'Study | None':
    """The study of a name, where there is one that may be gone on with.

    One that holds no result is of no worth to anyone; where it belongs to another configuration, or was never
    set up to the end, it makes way.

    Args:
        storage: Where to look.
        name: Name of the study.
        identity: What is searched, compared with what the study was begun with.
        resume: Whether the user wants to go on with results that are there.
        alone: Whether no other process can be using the study.
        shown: The storage for messages.

    Raises:
        ValueError: If the study is another one, still being set up, or not to be resumed.
    """
    import optuna

    if name not in optuna.get_all_study_names(storage):
        return None
    study = optuna.load_study(study_name=name, storage=storage)
    attrs = study.user_attrs
    finished = len(study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]))
    found = f'storage {shown} holds a study {name!r} with {finished} evaluations'
    different = differences(attrs.get('fingerprint', {}), identity)
    if (different or not attrs.get('ready')) and not finished and 'dense' not in attrs and alone:
        optuna.delete_study(study_name=name, storage=storage)
        return None
    if different:
        listed = '; '.join(different[:5]) + (f'; and {len(different) - 5} more' if len(different) > 5 else '')
        raise ValueError(
            f'{found} of another configuration: {listed}. Search as the study did, or give another work dir, storage '
            f'or study name.'
        )
    if not attrs.get('ready'):
        raise ValueError(f'{found} that another process is still setting up. Start again in a minute.')
    if finished and not resume:
        raise ValueError(f'{found}. Give --resume to go on with it, or another work dir, storage or study name.')
    return study


def settle_lost_trials(study: 'Study', sites: Sequence[str]) -> None:
    """Ends the trials of processes that are gone: with the result where it was stored, else to be run again.

    Args:
        study: A study that no other process is at.
        sites: Names of the sites.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        result = trial.user_attrs.get('result')
        if result is not None:
            study.tell(trial.number, [result['accuracy'], trial.user_attrs['cost']])
        else:
            run_again(study, trial, sites)


def run_again(study: 'Study', trial: 'FrozenTrial', sites: Sequence[str]) -> None:
    """Fails a running trial and has its setting proposed again, ahead of new ones.

    It is enqueued before the old trial is failed. A kill in between enqueues it twice, which is found out as a
    duplicate; the other way round it would be lost.
    """
    from optuna.trial import TrialState

    params = trial.system_attrs.get('fixed_params') or trial.params
    if set(params) == set(sites):
        study.enqueue_trial(dict(params), user_attrs={'retry_of': trial.number})
    study.tell(trial.number, state=TrialState.FAIL)
