"""Parts of what runs do; the whole of it is in test_tools_run_experiments.py."""

import json

import pytest
import torch
from mmengine.config import Config

from sparsevit_mm.experiments import From, worker
from sparsevit_mm.experiments.jobs.calibrating import nearest
from sparsevit_mm.experiments.jobs.job import Job, read_result, write_whole
from sparsevit_mm.experiments.jobs.training import last_checkpoint, resume_point
from sparsevit_mm.experiments.process import reason
from sparsevit_mm.experiments.values import Unreachable, fill


def make_job(folder, kind='train', **options):
    return Job(kind, folder, folder, folder / 'run', options, 0, 'cpu', None)


def test_job_survives_its_file(tmp_path):
    job = make_job(tmp_path, shape=(240, 320), rows=[{'overrides': {'a.b': [1, 2], 'c': ((64,),)}}], table='t.json')
    job.folder.mkdir()
    job.save()
    assert Job.load(job.folder / 'job.json') == job


def test_result_is_there_as_a_whole_or_not_at_all(tmp_path):
    assert read_result(tmp_path) is None
    write_whole(tmp_path / 'result.json', {'values': {'a': 1}})
    assert read_result(tmp_path) == {'values': {'a': 1}}
    assert [path.name for path in tmp_path.iterdir()] == ['result.json']


@pytest.mark.parametrize(
    ('loop', 'name'), [({'max_epochs': 40}, 'epoch_40.pth'), ({'max_iters': 300, 'val_interval': 3}, 'iter_300.pth')]
)
def test_last_checkpoint_is_named_by_the_loop(loop, name):
    assert last_checkpoint(Config({'train_cfg': loop})) == name


def save(path, **more):
    path.parent.mkdir(exist_ok=True)
    torch.save({'state_dict': {'w': torch.ones(1000)}, **more}, path)
    return path


def test_training_goes_on_from_the_furthest_checkpoint_that_can_be_read(tmp_path):
    folder = tmp_path / 'train'
    assert resume_point(folder) is None
    save(folder / 'epoch_9.pth', optimizer={})
    whole = save(folder / 'epoch_10.pth', optimizer={})
    save(folder / 'best_mIoU_epoch_40.pth', optimizer={})
    cut = save(folder / 'epoch_15.pth', optimizer={})
    cut.write_bytes(cut.read_bytes()[:-500])
    save(folder / 'epoch_20.pth')  # without the state of an optimizer
    (folder / 'last_checkpoint').write_text('')
    assert resume_point(folder) == whole


def test_nearest_candidate_is_the_control():
    candidates = [({'label': str(shape), 'shape': shape}, ratio) for shape, ratio in (((1, 2), 0.4), ((3, 4), 0.62))]
    found = json.loads(json.dumps({'0.65': nearest(candidates, 0.65), '0.8': nearest(candidates, 0.8)}))
    chosen = found['0.65']
    assert chosen['label'] == '(3, 4)' and chosen['ratio'] == 0.62 and chosen['shape'] == {'tuple': [3, 4]}
    with pytest.raises(Unreachable, match=r'nothing takes about 80% of the dense latency: \(3, 4\) is nearest'):
        fill(From('calibrate', '0.8'), {'calibrate': found}.__getitem__, None)
    assert nearest(candidates, 0.8, furthest=0.5)['ratio'] == 0.62


@pytest.mark.parametrize(
    ('status', 'log', 'said'),
    [
        (2, 'x\nerror: no data\nnoise\n', 'no data'),
        (1, 'Traceback\nRuntimeError: CUDA error\n\n', 'RuntimeError: CUDA error'),
        (3, '', 'ended with status 3 and without a word'),
        (-9, 'x', 'killed by signal 9, most likely for memory'),
        (-15, 'x', 'killed by signal 15'),
    ],
)
def test_reason_is_what_was_said_last(tmp_path, status, log, said):
    (tmp_path / 'log.txt').write_text(log)
    assert reason(status, tmp_path / 'log.txt') == said


def test_worker_leaves_no_result_of_a_run_that_failed(tmp_path, monkeypatch):
    job = make_job(tmp_path)
    job.folder.mkdir()
    job.save()

    def fail(job):
        raise ValueError('no')

    monkeypatch.setattr(worker, '_function', lambda kind: fail)
    with pytest.raises(ValueError, match='no'):
        worker.main([str(job.folder / 'job.json')])
    assert read_result(job.folder) is None


@pytest.mark.parametrize('moment', ['before', 'in between'])
def test_worker_says_that_its_device_is_gone(tmp_path, monkeypatch, moment):
    """Before anything is done, and where it failed for that reason: it must not look like a failure of the run."""
    job = make_job(tmp_path)
    job.folder.mkdir()
    job.save()
    answers = [True] if moment == 'before' else [False, True]
    monkeypatch.setattr(worker, 'device_gone', lambda device: answers.pop(0))
    done = []

    def lose(job):
        done.append(job)
        raise RuntimeError('CUDA error: an illegal memory access was encountered')

    monkeypatch.setattr(worker, '_function', lambda kind: lose)
    assert worker.main([str(job.folder / 'job.json')]) == worker.DEVICE_GONE
    assert len(done) == (moment == 'in between')


def test_cpu_does_not_go(monkeypatch):
    monkeypatch.setattr(worker.subprocess, 'run', lambda *args, **kwargs: pytest.fail('asks for a GPU'))
    assert not worker.device_gone('cpu')


def test_cuda_device_that_is_not_there_is_gone(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert worker.device_gone('cuda')
