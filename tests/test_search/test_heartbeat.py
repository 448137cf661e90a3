import time

import optuna
import pytest
from optuna.trial import TrialState
from postgres import postgres, postgres_url

from sparsevit_mm.search.storage import open_storage, sqlite_url
from sparsevit_mm.search.storage.heartbeat import Heartbeat

__all__ = ['postgres', 'postgres_url']

pytestmark = pytest.mark.filterwarnings('ignore:Heartbeat of storage is supposed')
GRACE = 1  # seconds; SQLite's clock counts whole ones, so that three may pass before silence is noticed


@pytest.fixture(params=['sqlite', 'postgresql'])
def storage(request, tmp_path):
    if request.param == 'sqlite':
        url = sqlite_url(tmp_path / 'study.sqlite3')
    else:
        url = request.getfixturevalue('postgres_url')
    return open_storage(url, heartbeat=1, grace=GRACE)


def quick(storage):
    """A heart that beats more often than the storage says."""
    heart = Heartbeat(storage)
    heart.interval = 0.2
    return heart


def lost(storage, study):
    return storage._get_stale_trial_ids(study._study_id)


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def test_a_trial_lives_until_it_is_stopped(storage):
    study = optuna.create_study(storage=storage)
    kept, given_up = study.ask()._trial_id, study.ask()._trial_id
    heart = quick(storage)
    heart.start(kept)
    heart.start(given_up)
    assert lost(storage, study) == []
    heart.stop(given_up)
    wait_until(lambda: lost(storage, study) == [given_up])
    heart.close()
    wait_until(lambda: lost(storage, study) == [kept, given_up])


def test_the_first_beat_is_there_at_once(storage):
    """A trial that never beat would never be taken for lost."""
    study = optuna.create_study(storage=storage)
    trial = study.ask()._trial_id
    heart = Heartbeat(storage)
    assert heart.interval == 1
    heart.start(trial)
    heart.close()
    wait_until(lambda: lost(storage, study) == [trial])


def test_it_goes_on_after_being_closed(postgres_url):
    storage = open_storage(postgres_url, heartbeat=1, grace=GRACE)
    study = optuna.create_study(storage=storage)
    heart = quick(storage)
    heart.start(study.ask()._trial_id)
    heart.close()
    heart.close()
    study.tell(0, state=TrialState.FAIL)
    heart.start(study.ask()._trial_id)
    time.sleep(1.5 * GRACE)
    assert lost(storage, study) == []
    heart.close()


def test_it_outlives_the_server_and_says_so_once(postgres, capsys):
    storage = open_storage(postgres.new_database(), heartbeat=1, grace=GRACE)
    study = optuna.create_study(storage=storage)
    heart = quick(storage)
    heart.start(study.ask()._trial_id)
    postgres.stop()
    try:
        time.sleep(1)
    finally:
        postgres.start()
    said = [line for line in capsys.readouterr().out.splitlines() if 'the storage does not answer' in line]
    assert len(said) == 1 and 'another process will take up what this one is at' in said[0]
    wait_until(lambda: lost(storage, study) == [])
    time.sleep(1.5 * GRACE)
    assert lost(storage, study) == []
    heart.close()


def test_a_first_beat_that_fails_is_an_error(postgres):
    storage = open_storage(postgres.new_database(), heartbeat=1)
    trial = optuna.create_study(storage=storage).ask()
    heart = Heartbeat(storage)
    postgres.stop()
    try:
        with pytest.raises(optuna.exceptions.StorageInternalError):
            heart.start(trial._trial_id)
    finally:
        postgres.start()
    heart.start(trial._trial_id)
    heart.close()


@pytest.mark.parametrize('url', [None, 'sqlite://'])
def test_storages_without_heartbeats_are_left_alone(url):
    storage = open_storage(url)
    trial = optuna.create_study(storage=storage).ask()
    heart = Heartbeat(storage)
    heart.start(trial._trial_id)
    assert heart.interval is None
    heart.stop(trial._trial_id)
    heart.close()
