"""How the tools end."""

import argparse

import pytest

from sparsevit_mm.cli import DEBUG_VARIABLE, add_config_options, run_tool


def raising(error):
    def main(argv):
        raise error

    return main


def test_status_and_arguments():
    seen = []
    assert run_tool(seen.extend, ['a', '--debug', '-b']) == 0
    assert seen == ['a', '-b']
    assert run_tool(lambda argv: 3, []) == 3


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (ValueError('sparsity is 2'), 'error: sparsity is 2'),
        (PermissionError(13, 'Permission denied', '/out'), 'error: /out: Permission denied'),
        (FileNotFoundError("class `A` in a.py: there is no 'x'"), "error: class `A` in a.py: there is no 'x'"),
        (
            FileNotFoundError(
                'Caught FileNotFoundError in worker 0.\nOriginal Traceback (most recent call last):\nno x.jpg'
            ),
            'error: no x.jpg',
        ),
        (ValueError(), 'error: ValueError'),
    ],
)
def test_a_users_mistake_is_one_line(error, line, capsys):
    assert run_tool(raising(error), []) == 2
    assert capsys.readouterr().err == f'{line}\n'


def test_interruption(capsys):
    assert run_tool(raising(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == 'interrupted\n'


def test_our_own_mistakes_and_debugging_keep_the_traceback(monkeypatch):
    with pytest.raises(AssertionError):
        run_tool(raising(AssertionError()), [])
    with pytest.raises(ValueError):
        run_tool(raising(ValueError()), ['--debug'])
    monkeypatch.setenv(DEBUG_VARIABLE, '1')
    with pytest.raises(ValueError):
        run_tool(raising(ValueError()), [])


def test_overrides_of_a_config(capsys):
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    given = parser.parse_args(['--cfg-options', 'a.b=0.5', 'c=1,2']).cfg_options
    assert given == {'a.b': 0.5, 'c': [1, 2]}
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'a.b'])
    assert "takes KEY=VALUE, such as model.backbone.sparsity=0.5, got 'a.b'" in capsys.readouterr().err
