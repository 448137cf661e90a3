"""The images that a search is scored on."""

from .choice import Rung, SearchSplit, split_for_search

__all__ = ['Rung', 'SearchSplit', 'split_for_search']
