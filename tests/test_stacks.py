"""Pins of the stacks of versions, and what the test script does with them."""

import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
STACKS = ['upstream', *sorted(path.parent.name for path in ROOT.glob('requirements/stacks/*/constraints.txt'))]
# What users install, beside what the set-up script does.
OF_USERS = ('mminstall', 'det3d')


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def requirements_in(text):
    return [Requirement(line) for line in text.splitlines() if line and not line.startswith('#')]


def lines_of(name):
    return requirements_in((ROOT / 'requirements' / f'{name}.txt').read_text())


def ask_set_up(stack, command):
    """What a command prints after the set-up script has chosen a stack."""
    script = f'source "$1"; choose_stack --stack "$2"; {command}'
    return run('bash', '-c', script, 'bash', str(ROOT / 'tools' / 'setup_env.sh'), stack)


def pins_of(stack, python):
    """Package -> the version that a stack installs for a Python."""
    pins = {}
    for pin in requirements_in(ask_set_up(stack, 'pins')):
        if pin.marker is None or pin.marker.evaluate(dict(python_version=python)):
            name = pin.name.lower().replace('_', '-')
            assert name not in pins, f'{name} is pinned twice for Python {python}'
            pins[name] = next(iter(pin.specifier)).version
    return pins


@pytest.mark.parametrize('python', ['3.10', '3.11', '3.12'])
@pytest.mark.parametrize('stack', STACKS)
def test_pins_satisfy_every_range(stack, python):
    """One version a package and Python, and inside the range that the extra asks for."""
    pins = pins_of(stack, python)
    for group in (*ask_set_up(stack, 'echo "${INSTALLED[@]}"').split(), *OF_USERS):
        for wanted in requirements_in(ask_set_up(stack, f'cat "$(requirements_of {group})"')):
            if wanted.name != 'torch':  # chosen apart
                pin = pins[wanted.name.lower().replace('_', '-')]
                assert wanted.specifier.contains(pin), f'{group}.txt wants {wanted}, the pin is {pin}'
    name, _, version = ask_set_up(stack, 'echo "$MMCV_PIN"').strip().partition('==')
    assert name.endswith('mmcv') and pins[name] == version


@pytest.mark.parametrize('stack', STACKS)
def test_torch_of_a_stack_is_in_the_range_of_the_package(stack):
    claimed = next(line for line in lines_of('runtime') if line.name == 'torch')
    chosen = requirements_in(ask_set_up(stack, 'cat "$(requirements_of torch)"'))[0]
    assert claimed.specifier.contains(next(iter(chosen.specifier)).version)


def test_pins_of_a_stack_take_the_place_of_the_common_ones():
    common, forks = pins_of('upstream', '3.11'), pins_of('onedl', '3.11')
    assert forks['numpy'].startswith('2.') and common['numpy'].startswith('1.')
    own = {line.name for line in requirements_in((ROOT / 'requirements/stacks/onedl/constraints.txt').read_text())}
    assert forks == {**common, **{name: forks[name] for name in own}}
    assert 'mmdet3d' in ask_set_up('oldest', 'mm_packages') and 'mmdet3d' not in ask_set_up('onedl', 'mm_packages')


def test_oldest_stack_is_as_old_as_the_package_claims():
    pins = pins_of('oldest', '3.10')
    for group in ('det', 'seg'):
        for wanted in lines_of(group):
            if wanted.name.startswith('mm'):
                assert pins[wanted.name] in {bound.version for bound in wanted.specifier if bound.operator == '>='}
    claimed = next(line for line in lines_of('runtime') if line.name == 'torch')
    tested = requirements_in(ask_set_up('oldest', 'cat "$(requirements_of torch)"'))[0]
    assert next(iter(tested.specifier)).version.startswith(next(iter(claimed.specifier)).version + '.')


@pytest.fixture
def run_tests(tmp_path):
    """``run_tests.sh`` in a folder where set-up and Python only say how they are called."""
    (tmp_path / 'tools').mkdir()
    shutil.copy2(ROOT / 'tools' / 'run_tests.sh', tmp_path / 'tools')
    (tmp_path / 'tools' / 'setup_env.sh').write_text('echo set-up $*\n')
    for name in ('.venv', '.venv-onedl'):
        python = tmp_path / name / 'bin' / 'python'
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        python.chmod(0o755)
    return lambda *words: run('bash', str(tmp_path / 'tools' / 'run_tests.sh'), *words).splitlines()


def test_without_a_stack_all_tests_run_in_the_common_environment(run_tests):
    assert run_tests('-k', 'x') == ['set-up', '.venv -m pytest -q --durations=15 -n auto --dist worksteal -k x']
    assert run_tests('tests/test_ops', '-p', 'no:xdist')[1] == (
        '.venv -m pytest -q --durations=15 tests/test_ops -p no:xdist'
    )


@pytest.mark.parametrize('option', [('--stack', 'onedl'), ('--stack=onedl',)])
def test_core_tests_of_a_stack_run_in_its_own_environment(run_tests, option):
    set_up, pytest_call = run_tests('-k', 'x', *option)
    assert set_up == 'set-up --stack onedl' and pytest_call.startswith('.venv-onedl ') and pytest_call.endswith(' -k x')
    core = [word for word in pytest_call.split() if word.startswith('tests/')]
    assert len(core) > 10 and all((ROOT / path).exists() for path in core)
    named = run_tests('tests/test_ops', *option)[1]
    assert named == '.venv-onedl -m pytest -q --durations=15 -n auto --dist worksteal tests/test_ops'
    assert run_tests('--stack', 'upstream')[1].startswith('.venv ')


@pytest.mark.parametrize(('wanted', 'standard'), [('C++17', 'c++17'), ('C++20', 'c++20')])
def test_mmcv_is_compiled_by_the_standard_that_torch_wants(tmp_path, wanted, standard):
    header = tmp_path / 'include' / 'ATen' / 'ATen.h'
    header.parent.mkdir(parents=True)
    header.write_text(f'#error {wanted} or later compatible compiler is required to use ATen.\n')
    python = tmp_path / 'python'  # says where torch is
    python.write_text(f'#!/bin/sh\necho {tmp_path}\n')
    python.chmod(0o755)
    assert ask_set_up('upstream', f'PY={python}; cxx_standard').strip() == standard
