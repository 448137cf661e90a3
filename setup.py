"""Packaging: extras from requirements/, and configs, tools and model index inside the package as mim expects them."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKAGE = 'sparsevit_mm'
EXTRAS = ('det', 'seg', 'det3d', 'search', 'postgres', 'export', 'demo', 'dev')
MIM_ENTRIES = ('configs', 'tools', 'model-index.yml')


def requirements(name: str) -> list[str]:
    """The requirement lines of one file, without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith('#')]


def version() -> str:
    """The version, read without importing the package."""
    scope: dict[str, str] = {}
    exec((ROOT / PACKAGE / 'version.py').read_text(encoding='utf-8'), scope)
    return scope['__version__']


class BuildWithMim(build_py):
    """Puts configs/, tools/ and the model index where mim and ``_base_ = 'sparsevit_mm::...'`` look for them.

    A wheel gets copies, made in the build folder. An editable install gets links in the source tree, so that
    a changed config counts at once.
    """

    def run(self) -> None:
        super().run()
        if getattr(self, 'editable_mode', False):
            self._link(ROOT / PACKAGE / '.mim')
        else:
            self._copy(Path(self.build_lib) / PACKAGE / '.mim')

    def _link(self, mim: Path) -> None:
        mim.mkdir(exist_ok=True)
        for entry in MIM_ENTRIES:
            link = mim / entry
            if link.is_symlink():
                link.unlink()
            elif link.is_dir():
                shutil.rmtree(link)
            elif link.exists():
                link.unlink()
            try:
                link.symlink_to(Path('..', '..', entry), target_is_directory=entry != 'model-index.yml')
            except OSError:  # no permission for links, as on a plain Windows account
                _copy_entry(ROOT / entry, link)

    def _copy(self, mim: Path) -> None:
        shutil.rmtree(mim, ignore_errors=True)  # a former build may have left files that are gone
        mim.mkdir(parents=True)
        for entry in MIM_ENTRIES:
            _copy_entry(ROOT / entry, mim / entry)


def _copy_entry(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
    else:
        shutil.copy2(source, target)


def readme() -> str:
    path = ROOT / 'README.md'
    return path.read_text(encoding='utf-8') if path.exists() else ''


setup(
    name=PACKAGE,
    version=version(),
    description='Sparse vision backbones for OpenMMLab: SparseViT, DynamicViT and SPViT as one library',
    long_description=readme(),
    long_description_content_type='text/markdown',
    author='sparsevit_mm contributors',
    license='Apache-2.0',
    keywords='computer vision, object detection, segmentation, sparsity, vision transformer, Swin',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    python_requires='>=3.10',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    install_requires=requirements('runtime'),
    extras_require={
        **{extra: requirements(extra) for extra in EXTRAS},
        'mim': requirements('mminstall'),
    },
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
