"""Runs the search tool and kills it, as ``kill -9`` does, at an exact moment.

    python killed_search.py MOMENT [what tools/search_sparsity.py takes]

At the moment ``never`` it runs to its end.
"""

import importlib.util
import os
import signal
import sys
from pathlib import Path

import optuna
from mmengine.runner import TestLoop

from sparsevit_mm.cli import run_tool
from sparsevit_mm.search.progress import SearchProgress
from sparsevit_mm.search.report import files
from sparsevit_mm.search.split.dataset import ImageTable

TOOL = Path(__file__).parents[1] / 'tools' / 'search_sparsity.py'


def kill_when(owner, name, condition):
    """Replaces a function by one that never returns once a condition holds for its arguments and the calls so far."""
    function, calls = getattr(owner, name), []

    def call(*args, **kwargs):
        calls.append(args)
        if condition(len(calls), *args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    setattr(owner, name, call)


def complete(study):
    return len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))


def kill_at(moment):
    if moment == 'split':  # its file is written under another name, and not yet there
        kill_when(ImageTable, 'write', lambda *_: kill_when(Path, 'replace', lambda *_: True))
    elif moment == 'table':
        kill_when(SearchProgress, 'measured', lambda calls, progress, done, total: done == total // 2)
    elif moment == 'ready':
        kill_when(optuna.study.Study, 'set_user_attr', lambda calls, study, key, value: key == 'ready')
    elif moment == 'trial':  # the second candidate's second batch
        kill_when(TestLoop, 'run_iter', lambda calls, *_: calls == 4)
    elif moment == 'told':  # the result of its second candidate is stored, and the trial not yet at its end
        kill_when(
            optuna.study.Study, 'tell', lambda calls, study, *_, state=None: state is None and complete(study) == 2
        )
    elif moment == 'report':
        kill_when(files, 'html_text', lambda *_: True)
    else:
        assert moment == 'never', moment


def main():
    kill_at(sys.argv[1])
    spec = importlib.util.spec_from_file_location('search_sparsity_tool', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return run_tool(tool.main, sys.argv[2:])


if __name__ == '__main__':
    sys.exit(main())
