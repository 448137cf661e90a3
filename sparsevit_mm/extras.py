"""Packages that only some models and commands need, and the extra of setup.py that brings each."""

import importlib.util

__all__ = ['EXTRAS', 'install_hint', 'require']

EXTRAS = {
    'mmdet': 'det',
    'mmseg': 'seg',
    'mmdet3d': 'det3d',
    'onnx': 'export',
    'onnxscript': 'export',
    'onnxruntime': 'export',
    'skimage': 'export',
    'gradio': 'demo',
}


def install_hint(package: str) -> str:
    """What to type to have a package."""
    return f'pip install "sparsevit_mm[{EXTRAS[package]}]"'


def require(*packages: str) -> None:
    """Looks whether packages are installed.

    Raises:
        ValueError: If one is missing, with the extra that brings it.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ValueError(f'{", ".join(missing)} is needed and not installed: {install_hint(missing[0])}.')
