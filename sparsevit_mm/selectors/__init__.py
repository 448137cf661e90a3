"""Selectors: features -> scores, the highest of which stay."""

from .base import Selector
from .magnitude import MagnitudeSelector
from .random import RandomSelector

__all__ = ['MagnitudeSelector', 'RandomSelector', 'Selector']
