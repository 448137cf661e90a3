"""Packages that only some commands need."""

import importlib.util

__all__ = ['require']

# Package -> the extra of setup.py that brings it.
EXTRAS = {
    'onnx': 'export',
    'onnxscript': 'export',
    'onnxruntime': 'export',
    'skimage': 'export',
    'gradio': 'demo',
}


def require(*packages: str) -> None:
    """Looks whether packages are installed.

    Raises:
        ValueError: If one is missing, with the extra that brings it.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        extra = EXTRAS[missing[0]]
        raise ValueError(f'{", ".join(missing)} is needed and not installed: pip install "sparsevit_mm[{extra}]".')
