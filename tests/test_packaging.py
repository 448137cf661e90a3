"""What a wheel carries, what the set-up says, that the tree stays clean, and that the code is formatted."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
EXTRAS = ('det', 'seg', 'det3d', 'search', 'postgres', 'export', 'demo', 'dev')
SOURCES = ('sparsevit_mm', 'configs', 'tools', 'requirements')
FILES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md', 'model-index.yml')


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """A copy of the project, so that a build leaves nothing in the real one."""
    root = tmp_path_factory.mktemp('tree')
    for name in SOURCES:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns('__pycache__', '.mim'))
    for name in FILES:
        shutil.copy2(ROOT / name, root / name)
    return root


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def wheel(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp('wheel')
    options = ['--no-deps', '--no-build-isolation', '--no-index', '--disable-pip-version-check']
    run(sys.executable, '-m', 'pip', 'wheel', *options, '-w', str(out), str(tree))
    return next(out.glob('sparsevit_mm-*.whl'))


@pytest.mark.slow
def test_wheel_carries_code_configs_tools_and_index(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ('configs', 'tools'):
        there = {
            p.relative_to(ROOT) for p in (ROOT / folder).rglob('*') if p.is_file() and '__pycache__' not in p.parts
        }
        assert there and {f'sparsevit_mm/.mim/{path.as_posix()}' for path in there} <= names
    assert 'sparsevit_mm/.mim/model-index.yml' in names
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / 'sparsevit_mm').rglob('*.py') if '.mim' not in p.parts}
    assert modules <= names
    assert not [name for name in names if name.startswith('tests/') or '__pycache__' in name]


@pytest.mark.slow
def test_wheel_declares_its_extras(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(n for n in archive.namelist() if n.endswith('METADATA'))).decode()
    for extra in (*EXTRAS, 'mim'):
        assert f'Provides-Extra: {extra}\n' in metadata
    assert 'Requires-Python: >=3.10' in metadata and 'Apache' in metadata
    plain = [line for line in metadata.splitlines() if line.startswith('Requires-Dist') and 'extra ==' not in line]
    assert not [line for line in plain if 'mmcv' in line or 'mmdet' in line], (
        'either family of OpenMMLab may bring these'
    )


@pytest.mark.slow
def test_configs_of_an_unpacked_wheel_are_found_by_name(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / 'site')
    configs = tmp_path / 'site' / 'sparsevit_mm' / '.mim' / 'configs'
    name = next(path for path in sorted(configs.rglob('*.py')) if '_base_' not in path.parts).relative_to(configs)
    (tmp_path / 'mine.py').write_text(f"_base_ = 'sparsevit_mm::{name.as_posix()}'")
    code = (
        'import sparsevit_mm; from sparsevit_mm.apis import load_config; '
        "print(sparsevit_mm.__file__); print('model' in load_config('mine.py'))"
    )
    env = dict(os.environ, PYTHONPATH=str(tmp_path / 'site'))
    lines = run(sys.executable, '-W', 'ignore', '-c', code, cwd=tmp_path, env=env).splitlines()
    assert lines == [str(tmp_path / 'site' / 'sparsevit_mm' / '__init__.py'), 'True']


@pytest.mark.slow
def test_source_distribution_is_whole(tree, tmp_path):
    run(sys.executable, 'setup.py', '-q', 'sdist', '--formats=zip', '-d', str(tmp_path), cwd=tree)
    names = {name.partition('/')[2] for name in zipfile.ZipFile(next(tmp_path.glob('*.zip'))).namelist()}
    assert {*FILES, 'requirements/det.txt', 'tools/train.py', 'sparsevit_mm/version.py'} <= names
    assert not [name for name in names if name.startswith('sparsevit_mm/.mim')]


def test_editable_install_links_into_the_tree(tree):
    """The links are relative, replace what an older install left, and point where the files are."""
    mim = tree / 'sparsevit_mm' / '.mim'
    (mim / 'configs').mkdir(parents=True)
    (mim / 'configs' / 'old.py').touch()
    build = 'import sys; from setuptools.build_meta import build_editable; build_editable(sys.argv[1])'
    run(sys.executable, '-W', 'ignore', '-c', build, str(tree), cwd=tree)
    for entry in ('configs', 'tools', 'model-index.yml'):
        assert (mim / entry).is_symlink() and not Path(os.readlink(mim / entry)).is_absolute()
        assert (mim / entry).resolve() == tree / entry
    shutil.rmtree(mim)


def lines_of(name):
    text = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [Requirement(line) for line in text if line and not line.startswith('#')]


def test_optional_packages_are_in_the_extras():
    """What the package imports from outside is in one of the requirement files."""
    known = {
        requirement.name.lower().replace('_', '-')
        for group in ('runtime', 'mminstall', *EXTRAS)
        for requirement in lines_of(group)
    }
    names = {'cv2': 'mmengine', 'mmseg': 'mmsegmentation', 'skimage': 'scikit-image', 'sklearn': 'scikit-learn'}
    brought = {'mmpretrain', 'sqlalchemy', 'starlette', 'setuptools', 'psutil', 'scipy', 'pil', 'mpl-toolkits'}
    for path in (ROOT / 'sparsevit_mm').rglob('*.py'):
        if '.mim' in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                top = module.partition('.')[0]
                if top != 'sparsevit_mm' and top not in sys.stdlib_module_names:
                    assert names.get(top, top).lower().replace('_', '-') in known | brought, f'{path}: {module}'


def test_no_registry_host_is_named():
    files = [path for path in (ROOT / 'requirements').rglob('*') if path.is_file()]
    for path in (*files, *(ROOT / 'tools').glob('*.sh'), ROOT / 'setup.py'):
        text = path.read_text()
        assert 'pypi.org' not in text and 'pythonhosted' not in text and 'download.pytorch' not in text, path


def test_code_is_checked_and_formatted():
    pytest.importorskip('ruff')
    run(sys.executable, '-m', 'ruff', 'check', '--no-cache', str(ROOT))
    run(sys.executable, '-m', 'ruff', 'format', '--check', '--no-cache', str(ROOT))


@pytest.fixture
def bare(tmp_path):
    """A project folder with nothing installed, and a function that runs its set-up and returns what it says."""
    for name in ('tools', 'requirements'):
        shutil.copytree(ROOT / name, tmp_path / 'project' / name)

    def set_up(*words, **variables):
        env = {k: v for k, v in os.environ.items() if k not in ('CXX', 'SPARSEVIT_MM_TORCH')}
        env |= dict(XDG_CACHE_HOME=str(tmp_path / 'cache')) | variables
        command = ['bash', str(tmp_path / 'project' / 'tools' / 'setup_env.sh'), *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 1 and 'set-up stopped' in done.stderr
        assert not list((tmp_path / 'project').glob('.venv*')) and not (tmp_path / 'cache').exists()
        return done.stderr

    return set_up


def test_set_up_with_a_wrong_python_says_what_to_install(bare, tmp_path):
    old = tmp_path / 'old-python'
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.1"\nexit 1\n')
    old.chmod(0o755)
    message = bare(PYTHON=str(old), PATH=f'{tmp_path}:/usr/bin:/bin')
    assert 'is Python 3.8.1, but 3.10, 3.11 or 3.12 is needed' in message
    message = bare(PYTHON='no-such-python')
    for line in ('apt-get install python3 python3-venv', 'dnf install', 'conda create', 'brew install'):
        assert line in message


def test_set_up_without_a_compiler_says_what_to_install(bare):
    message = bare(PYTHON=sys.executable, CXX='no-such-compiler')
    for line in ('no C++ compiler', 'apt-get install g++', 'dnf install gcc-c++', 'cxx-compiler', 'xcode-select'):
        assert line in message


def test_set_up_without_the_promised_torch_stops(bare, tmp_path):
    blind = tmp_path / 'blind-python'
    blind.write_text(f'#!/bin/sh\ncase "$*" in *"import torch"*) exit 1;; esac\nexec {sys.executable} "$@"\n')
    blind.chmod(0o755)
    assert 'cannot import torch' in bare(PYTHON=str(blind), SPARSEVIT_MM_TORCH='installed')


def test_set_up_names_the_stacks(bare):
    assert "no stack 'nope'. These are: upstream oldest onedl" in bare('--stack', 'nope')
    assert "no stack '../stacks/onedl'" in bare('--stack=../stacks/onedl')
    assert '--stacks is no option' in bare('--stacks', 'onedl')
    assert 'extra is one word too many' in bare('--stack', 'onedl', 'extra')


def test_scripts_are_valid_shell():
    scripts = [*(ROOT / 'tools').glob('*.sh'), ROOT / '.ci' / 'run']
    run('bash', '-n', *map(str, scripts))
    if shutil.which('shellcheck'):
        run('shellcheck', *map(str, scripts))
