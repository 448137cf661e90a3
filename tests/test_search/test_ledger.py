from contextlib import contextmanager

import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from search_problem import accuracy
from sqlalchemy.exc import OperationalError

from sparsevit_mm.search import Budget, SparsityStudy
from sparsevit_mm.search.storage import sqlite_url


@pytest.fixture
def study(space, cost, tmp_path):
    url = sqlite_url(tmp_path / 'study.sqlite3')
    study = SparsityStudy(space, cost, Budget(0.6), storage=url, trials=4, heartbeat=1, grace=2, patience=0)
    yield study
    study.close()


def states(study):
    return [trial.state for trial in study._ledger.trials()]


def test_trial_that_could_not_be_signed_looks_lost(study, monkeypatch):
    """Otherwise this process would give signs of life for it for ever, and everybody would wait."""

    def away(self, trial_id, key, value):
        raise OperationalError('INSERT', {}, Exception('server closed the connection'))

    with monkeypatch.context() as patch, pytest.raises(OperationalError):
        patch.setattr(RDBStorage, 'set_trial_user_attr', away)
        study.ask()
    assert study._ledger.own == 0 and not study._ledger._heartbeat._trials
    candidate = study.ask()
    assert states(study) == [TrialState.FAIL, TrialState.RUNNING]
    study.tell(candidate, accuracy(candidate.sparsity))


def test_candidate_is_given_back_where_the_lock_was_lost(study, monkeypatch):
    """A server that is restarted forgets its locks, so another process may have got the same setting."""
    kept, hold = iter([False, True]), study._ledger._asking.hold

    @contextmanager
    def forgetful(waiting):
        with hold(waiting):
            yield lambda: next(kept)

    with monkeypatch.context() as patch:
        patch.setattr(study._ledger._asking, 'hold', forgetful)
        candidate = study.ask()
    assert candidate.number == 1 and states(study) == [TrialState.FAIL, TrialState.RUNNING]
    assert 'released' in study._ledger.trials()[0].user_attrs


def test_constraints_are_where_dashboards_look(study):
    study.tell(study.ask(), 60.0)
    candidate = study.ask()
    dense, other = study._ledger.trials()
    assert dense.system_attrs['constraints'] == [dense.constraints['budget']] and dense.constraints['budget'] > 0
    assert other.system_attrs['constraints'] == [candidate.cost - study.limit]
