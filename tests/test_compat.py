"""A runner's own checkpoint resumes under torch's safe loading, and a crafted file is still refused.

And what differs between versions is asked for in one file.
"""

import ast
import inspect
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.runner import checkpoint as mmengine_checkpoint

from sparsevit_mm import compat
from sparsevit_mm.compat import allow_mmengine_checkpoints, load_checkpoint_file

allow_mmengine_checkpoints()
safe_loading = pytest.mark.skipif(
    not hasattr(torch.serialization, 'add_safe_globals'), reason='this torch has no list of safe globals'
)


class ToyModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, inputs, mode='tensor'):
        out = self.linear(torch.stack(inputs))
        return dict(loss=out.square().mean()) if mode == 'loss' else out


class Stop(Exception):
    pass


class StopAt(Hook):
    """Ends the run the hard way after some iterations, and notes what the run began with."""

    def __init__(self, stop=None):
        self.stop = stop

    def before_train(self, runner):
        self.start = runner.iter
        self.history = {k: v.data[0].copy() for k, v in runner.message_hub.log_scalars.items()}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.stop:
            raise Stop


def make_runner(work_dir, hook, resume=False):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    data = [dict(inputs=torch.randn(2, generator=generator)) for _ in range(16)]
    runner = Runner(
        model=ToyModel(),
        work_dir=str(work_dir),
        train_dataloader=dict(dataset=data, batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False)),
        train_cfg=dict(by_epoch=False, max_iters=6),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, begin=0, end=2, by_epoch=False),
            dict(type='CosineAnnealingLR', T_max=4, begin=2, end=6, by_epoch=False),
        ],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=3, by_epoch=False, max_keep_ckpts=2),
            logger=dict(type='LoggerHook', interval=1),
        ),
        custom_hooks=[dict(type='EMAHook', momentum=0.2), hook],
        experiment_name=f'{work_dir.name}_{resume}_{hook.stop}',
        resume=resume,
        log_level='ERROR',
    )
    return runner


def test_a_runner_resumes_from_its_own_checkpoint(tmp_path):
    whole = make_runner(tmp_path / 'whole', StopAt())
    whole.train()

    with pytest.raises(Stop):
        make_runner(tmp_path / 'broken', StopAt(5)).train()
    hook = StopAt()
    resumed = make_runner(tmp_path / 'broken', hook, resume=True)
    resumed.train()

    assert hook.start == 3 and len(hook.history['train/loss']) == 3
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value)
    assert resumed.optim_wrapper.get_lr() == whole.optim_wrapper.get_lr()
    momentum = [next(iter(r.optim_wrapper.optimizer.state.values()))['momentum_buffer'] for r in (whole, resumed)]
    torch.testing.assert_close(*momentum)
    files = [load_checkpoint_file(r.message_hub.get_info('last_ckpt')) for r in (whole, resumed)]
    for name, value in files[0]['ema_state_dict'].items():
        torch.testing.assert_close(files[1]['ema_state_dict'][name], value)


def save(obj, path):
    torch.save(dict(state_dict={}, extra=obj), path)
    return path


@pytest.fixture(params=['by this torch', 'as before torch 2.4'])
def load(request, monkeypatch):
    if request.param == 'as before torch 2.4':
        monkeypatch.delattr(torch.serialization, 'add_safe_globals', raising=False)
    return load_checkpoint_file


def test_history_and_numbers_come_back_as_they_were(load, tmp_path):
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    buffer.update(6.0)
    values = dict(
        buffer=buffer,
        best=np.float64(0.5),
        count=np.int64(7),
        half=np.float16(1.5),
        flag=np.bool_(True),
        grid=np.arange(6, dtype=np.int32).reshape(2, 3),
    )
    loaded = load(save(values, tmp_path / 'a.pth'))['extra']
    assert loaded['buffer'].statistics('mean') == 3 and loaded['buffer'].statistics('min', 2) == 2
    for key in ('best', 'count', 'half', 'flag', 'grid'):
        np.testing.assert_array_equal(loaded[key], values[key])
        assert loaded[key].dtype == values[key].dtype


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


class CallOf(Call):
    """Pickles as a call of what another call returns, which no reduce of Python's own can say."""

    def __init__(self, *path):
        value = HistoryBuffer
        for name in path:
            value = Call(getattr, value, name)
        super().__init__(getattr, value, 'update')


def hostile(marker):
    """Name -> object that runs code, or reaches for it, when a permissive loader reads it."""
    return {
        'system': Call(os.system, f'touch {marker}'),
        'eval': Call(eval, f"open({str(marker)!r}, 'w')"),
        'exec': Call(exec, f"open({str(marker)!r}, 'w')"),
        'subprocess': Call(subprocess.getoutput, f'touch {marker}'),
        'init': Call(getattr, HistoryBuffer, '__init__'),
        'globals': CallOf('__init__', '__globals__'),
        'globals of an allowed method': CallOf('mean', '__globals__'),
        'registering': Call(getattr, HistoryBuffer, 'register_statistics'),
        'class of class': Call(getattr, HistoryBuffer, '__class__'),
        'another owner': Call(getattr, dict(), 'update'),
        'a string subclass': Call(getattr, 'x', 'format'),
        'setattr': Call(setattr, HistoryBuffer, 'mean', 1),
        'import': Call(__import__, 'os'),
        'object array': np.array([Call(os.getcwd)], dtype=object),
        'object type': np.dtype('O'),
        'record type': np.dtype([('a', 'f8'), ('b', 'i4')]),
        'text array': np.array(['a']),
        'array subclass': np.ones(1).view(np.recarray),
        'type of types': Call(type, 'T', (), {}),
    }


@pytest.mark.parametrize('name', sorted(hostile('x')))
def test_hostile_files_are_refused(name, load, tmp_path):
    marker = tmp_path / 'marker'
    path = save(hostile(marker)[name], tmp_path / 'bad.pth')
    with pytest.raises(pickle.UnpicklingError):
        load(path)
    assert not marker.exists()


def write_checkpoint(path, data):
    """A checkpoint file around hand-written pickle code."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(path, 'w') as archive:
        for member, content in members.items():
            archive.writestr(member, data if member.endswith('/data.pkl') else content)
    return path


GETATTR = b'c__builtin__\ngetattr\n'
BUFFER = b'cmmengine.logging.history_buffer\nHistoryBuffer\n'


def attribute(owner, name):
    return GETATTR + b'(' + owner + b'X' + len(name).to_bytes(4, 'little') + name + b'tR'


# getattr(HistoryBuffer, '__init__').__globals__['__builtins__'], then an item of it is set.
BUILTINS = attribute(attribute(BUFFER, b'__init__'), b'__globals__')
REBIND = b'\x80\x02' + BUILTINS + b'X\x04\x00\x00\x00evil' + b'K\x01' + b's.'
FORGED_STATE = b'\x80\x02' + GETATTR + b'}X\x0c\x00\x00\x00__defaults__K\x01sb.'
POISON = b'\x80\x02' + BUFFER + b'}X\x04\x00\x00\x00meanK\x01sb.'
WRITE_INTO_CLASS = b'\x80\x02' + BUFFER + b'X\x04\x00\x00\x00meanK\x01s.'
NEW_TYPE = b'\x80\x02cnumpy.dtypes\nFloat64DType\n(\x89\x88tR.'
NO_DICT = b'\x80\x02' + BUFFER + b')\x81K\x01K\x02s.'


@pytest.mark.parametrize('data', [REBIND, FORGED_STATE, POISON, WRITE_INTO_CLASS, NEW_TYPE, NO_DICT])
def test_crafted_pickle_code_is_refused(data, load, tmp_path):
    before = dict(HistoryBuffer.__dict__)
    with pytest.raises(Exception) as error:  # torch 2.13 wraps what numpy and Python raise, older ones do not
        load(write_checkpoint(tmp_path / 'bad.pth', data))
    assert isinstance(error.value, (pickle.UnpicklingError, TypeError, AttributeError))
    assert dict(HistoryBuffer.__dict__) == before
    assert 'evil' not in HistoryBuffer.__init__.__globals__


def forks_loader(file, map_location=None, weights_only=None):
    """As the forks' mmengine reads: what torch refuses is read without any check."""
    try:
        return torch.load(file, map_location=map_location, weights_only=True if weights_only is None else weights_only)
    except pickle.UnpicklingError:
        return torch.load(file, map_location=map_location, weights_only=False)


@safe_loading
def test_loader_of_the_forks_refuses_what_torch_refuses(tmp_path, monkeypatch):
    marker = tmp_path / 'marker'
    bad, good = save(hostile(marker)['system'], tmp_path / 'bad.pth'), save(dict(loss=1.0), tmp_path / 'good.pth')
    monkeypatch.setattr(mmengine_checkpoint, '_safe_torch_load', forks_loader, raising=False)
    mmengine_checkpoint._safe_torch_load(bad)
    assert marker.exists()
    marker.unlink()
    allow_mmengine_checkpoints()
    read = mmengine_checkpoint._safe_torch_load
    with pytest.raises(pickle.UnpicklingError):
        read(bad)
    assert not marker.exists()
    assert read(good, map_location='cpu')['extra'] == dict(loss=1.0)
    read(bad, weights_only=False)
    assert marker.exists(), 'who asks for it by name still gets it'


@safe_loading
@pytest.mark.parametrize('name', ['system', 'globals', 'init', 'object array', 'another owner'])
def test_loader_of_this_mmengine_refuses_hostile_files(name, tmp_path):
    if inspect.signature(torch.load).parameters['weights_only'].default is False:
        pytest.skip('torch before 2.6 reads anything for mmengine')
    marker = tmp_path / 'marker'
    path = save(hostile(marker)[name], tmp_path / 'bad.pth')
    with pytest.raises(pickle.UnpicklingError):
        mmengine_checkpoint.CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert not marker.exists()


def test_number_types_of_a_file_cannot_be_changed(load, tmp_path):
    """The state that a pickle sets on a dtype must not reach the type that everyone shares."""
    load(save(np.ones(2, '>f8'), tmp_path / 'a.pth'))
    assert np.dtype('f8').isnative and np.dtype('f8').itemsize == 8


@safe_loading
def test_calling_it_again_adds_nothing():
    before = torch.serialization.get_safe_globals()
    allow_mmengine_checkpoints()
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_a_torch_without_the_list_is_left_alone(monkeypatch):
    monkeypatch.delattr(torch.serialization, 'add_safe_globals', raising=False)
    assert compat.allow_mmengine_checkpoints() is None


def test_importing_compat_needs_neither_torch_nor_mmengine():
    code = "import sys; import importlib.util as u; s = u.spec_from_file_location('c', sys.argv[1])\n"
    code += "m = u.module_from_spec(s); s.loader.exec_module(m); assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, '-c', code, compat.__file__], check=True)


# ---------------------------------------------------------------- what torch has


def test_compilation_is_seen():
    def function(x):
        return x + 1 if compat.is_compiling() else x

    assert function(torch.zeros(1)) == 0
    assert torch.compile(function, backend='eager', fullgraph=True)(torch.zeros(1)) == 1
    torch._dynamo.reset()


def test_compilations_are_limited_by_the_option_of_this_torch():
    from torch._dynamo import config

    name = compat.compilation_limit_option()
    with config.patch({name: 1}):
        assert getattr(config, name) == 1
    assert getattr(config, name) > 1


def test_operators_that_this_torch_lacks_are_left_out():
    assert compat.aten_operators({'mm': 1, 'no_such_operator': 2}) == {torch.ops.aten.mm: 1}


def asks_for_versions(path: Path) -> list[str]:
    """Where a file asks what version torch or an mm package has, or whether it has something."""
    tree = ast.parse(path.read_text())
    foreign = {'torch'}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or '').startswith(('torch', 'mm')):
            foreign |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            foreign |= {alias.asname or alias.name for alias in node.names if alias.name.startswith(('torch', 'mm'))}
    found = []
    for node in ast.walk(tree):
        asks = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'hasattr'
        asks = asks and ast.unparse(node.args[0]).partition('.')[0] in foreign
        compares = isinstance(node, ast.Compare) and '__version__' in ast.unparse(node)
        parses = isinstance(node, ast.Name) and node.id in ('digit_version', 'parse_version', 'TORCH_VERSION')
        if asks or compares or parses:
            found.append(f'{path.name}:{node.lineno}: {ast.unparse(node)}')
    return found


def test_nothing_else_asks_for_versions(tmp_path):
    package = Path(compat.__file__).parent
    assert asks_for_versions(package / 'compat.py')
    others = [path for path in package.rglob('*.py') if path.name != 'compat.py' and '.mim' not in path.parts]
    found = [line for path in others for line in asks_for_versions(path)]
    assert not found, 'move it to compat.py'
