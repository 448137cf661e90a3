"""Experiments that show what pruning costs and gains: suites of runs, resumable, with one file of results."""

from .board import Board, Place
from .driver import Driver
from .plan import Claim, From, Row, Run, Seed, Suite, Task
from .results_file import Record, ResultsFile, read_records
from .suites import REPORTED, SUITES, suite_named
from .workplace import Workplace, check_data

__all__ = [
    'REPORTED',
    'SUITES',
    'Board',
    'Claim',
    'Driver',
    'From',
    'Place',
    'Record',
    'ResultsFile',
    'Row',
    'Run',
    'Seed',
    'Suite',
    'Task',
    'Workplace',
    'check_data',
    'read_records',
    'suite_named',
]
