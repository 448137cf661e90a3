"""Selectors: features -> scores, the highest of which stay."""

from .base import Selector, build_selector
from .magnitude import MagnitudeSelector
from .random import RandomSelector

__all__ = ['MagnitudeSelector', 'RandomSelector', 'Selector', 'build_selector']
