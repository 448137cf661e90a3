"""The file of one suite on one machine: its cases as they were measured, and where."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ..files import written_whole
from .environment import Environment

__all__ = ['CaseResult', 'SuiteFile', 'read_suite_file', 'suite_environment']

# What cases of one file must have in common; Python and the operating system are hardly felt.
_FELT = ('device', 'device_name', 'cores', 'cpu_capability', 'torch', 'cuda')


@dataclass(frozen=True)
class CaseResult:
    """What became of a case.

    Args:
        name: Of the case.
        arguments: Words of ``tools/benchmark.py`` that timed it, but for where the figures go.
        report: As :meth:`BenchmarkReport.to_dict` gives it; None where there is none.
        error: Why there is none.
    """

    name: str
    arguments: tuple[str, ...]
    report: dict[str, Any] | None
    error: str | None

    @property
    def failures(self) -> list[str]:
        """A sentence for the case if it failed, else for every row of it that did."""
        if self.error is not None:
            return [f'{self.name}: {self.error}']
        return [f'{self.name}: {failure}' for failure in self.report.get('failures', ())]


class SuiteFile:
    """Cases of a suite under the same conditions, kept in a file that is whole at any moment.

    Args:
        folder: Where the file is or will be. Its name tells the suite, the machine and the version of torch.
        suite: Name of the suite.
        environment: As :func:`suite_environment` gives it.

    Raises:
        ValueError: If there is a file that cannot be read, or one of other conditions.
    """

    def __init__(self, folder: Path, suite: str, environment: Mapping[str, Any]) -> None:
        self.path = folder / f'{suite}_{_slug(environment)}.json'
        self.suite, self.environment = suite, dict(environment)
        self._results: dict[str, CaseResult] = {}
        if self.path.exists():
            there, of, results = read_suite_file(self.path)
            self._check_same(there, of)
            self._results = {result.name: result for result in results}

    def _check_same(self, suite: str, environment: Mapping[str, Any]) -> None:
        felt = _FELT + ('threads',) * (self.environment['device'] == 'cpu')
        differences = [
            f'{key} {environment.get(key)} there and {self.environment[key]} here'
            for key in felt
            if environment.get(key) != self.environment[key]
        ]
        if suite != self.suite:
            differences.insert(0, f'suite {suite} there and {self.suite} here')
        if differences:
            raise ValueError(
                f'{self.path} was measured under other conditions: {"; ".join(differences)}. Move it away, or give '
                f'another --out.'
            )

    def check_writable(self) -> None:
        """Before anything is measured; the folder is made if need be.

        Raises:
            OSError: If the file could not be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f'.{os.getpid()}.{self.path.name}')
        beside.touch()
        beside.unlink()

    def get(self, name: str) -> CaseResult | None:
        """A case that is there."""
        return self._results.get(name)

    def put(self, result: CaseResult) -> None:
        """Add or replace a case, and write the file.

        Raises:
            OSError: If the file cannot be written.
        """
        self._results[result.name] = result
        values = {
            'suite': self.suite,
            'environment': self.environment,
            'cases': [asdict(result) for result in self._results.values()],
        }
        with written_whole(self.path) as unfinished:
            unfinished.write_text(json.dumps(values, indent=1) + '\n')


def read_suite_file(path: Path) -> tuple[str, dict[str, Any], list[CaseResult]]:
    """Name of the suite, environment and cases of a file.

    Raises:
        ValueError: If it is no file of a suite.
        OSError: If it cannot be opened.
    """
    try:
        values = json.loads(path.read_text())
        known = [field.name for field in fields(CaseResult)]
        results = [
            CaseResult(**{**{name: case[name] for name in known}, 'arguments': tuple(case['arguments'])})
            for case in values['cases']
        ]
        for result in results:
            if (result.report is None) == (result.error is None) or not isinstance(result.report or {}, dict):
                raise ValueError(f'case {result.name} has neither a report nor an error, or both')
        return values['suite'], dict(values['environment']), results
    except (KeyError, TypeError, ValueError) as error:
        said = f'{error} is missing' if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f'{path} cannot be read as the file of a suite: {said}. It is left as it is: move it away, or give another '
            f'--out.'
        ) from error


def suite_environment(device: str, threads: int | None = None) -> dict[str, Any]:
    """What all cases of a suite share here; ``threads`` are torch's present ones if not given."""
    found = Environment.current(device=device, dtype='float32', batch=1, shape=(1, 1), threads=threads)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return {
        'device': found.device,
        'device_name': found.device_name,
        'cores': cores,
        'cpu_capability': torch.backends.cpu.get_cpu_capability(),
        'threads': found.threads,
        'torch': found.torch,
        'cuda': torch.version.cuda,
        'python': found.python,
        'platform': found.platform,
    }


def _slug(environment: Mapping[str, Any]) -> str:
    """Conditions as a part of a file's name: ``amd-epyc-family-25-model-17_2-threads_torch-2.13.0``."""
    device = environment['device_name'].replace(environment['cpu_capability'], '')
    parts = [re.sub('[^a-z0-9]+', '-', device.lower()).strip('-') or 'unknown']
    if environment['device'] == 'cpu':
        parts.append(f'{environment["threads"]}-thread{"s" * (environment["threads"] != 1)}')
    return '_'.join([*parts, f'torch-{environment["torch"].partition("+")[0]}'])
