"""Running the cases of a suite one after another, each in a process of its own."""

import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..processes import ENDS_WITH_PARENT
from .benchmark import check_together
from .benchmark_row import sparsity_text
from .benchmark_table import format_ms
from .conditions import check_device, check_schedule, check_threads
from .modes import check_modes
from .suite_file import CaseResult, SuiteFile, suite_environment
from .suites import SuiteCase, narrow, suite_cases, suite_entries

__all__ = ['run_case', 'run_cases', 'run_suite', 'select_cases', 'summary']

# Called with the number of a case from 1 on, the case, and what became of it: None when it starts.
Told = Callable[[int, SuiteCase, CaseResult | None], object]


def select_cases(
    suite: str,
    device: str = 'cpu',
    *,
    batches: Sequence[int] | None = None,
    dtypes: Sequence[str] | None = None,
    modes: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    sparsities: Sequence[str] | None = None,
) -> list[SuiteCase]:
    """The cases of a suite on a device, narrowed as by :func:`narrow`.

    Raises:
        ValueError: If there is no such suite, device or case.
    """
    found = check_device(device)
    if modes:
        check_modes(modes, found)
    cases = suite_cases(suite_entries(suite), cuda=found.type == 'cuda')
    return narrow(cases, batches=batches, dtypes=dtypes, modes=modes, names=names, sparsities=sparsities)


def run_suite(
    suite: str,
    cases: Sequence[SuiteCase],
    command: Sequence[str],
    *,
    folder: Path,
    device: str = 'cpu',
    threads: int | None = None,
    roof: bool = False,
    rounds: int = 10,
    min_round_time: float = 0.2,
    again: bool = False,
    told: Told | None = None,
) -> tuple[Path, list[CaseResult]]:
    """Time cases of a suite and keep them in its file, see :func:`run_cases`.

    Args:
        suite: Its name.
        cases: As :func:`select_cases` gives them, or of one's own.
        command: Words that start ``tools/benchmark.py`` in a process of its own.
        folder: Where the file is or will be.
        device: ``cpu`` or ``cuda``.
        threads: Intra-op threads of torch; the present ones if not given.
        roof: See :func:`run_benchmark`.
        rounds: See :func:`measure_interleaved`.
        min_round_time: See :func:`measure_interleaved`.
        again: Also time cases that are there.
        told: Hears of each case when it starts and when it ends.

    Returns:
        The file, and what became of each case, former results included.

    Raises:
        ValueError: If an argument is out of range, or the file is of other conditions or none of a suite.
        OSError: If the file cannot be written.
    """
    check_device(device)
    check_schedule(rounds, min_round_time)
    check_threads(threads)
    for case in cases:
        words = case.entry.options
        check_together([case.mode], whole_model='--whole-model' in words, training='--train' in words, roof=roof)
    environment = suite_environment(device, threads)
    file = SuiteFile(folder, suite, environment)
    file.check_writable()
    options = ['--device', device, '--threads', str(environment['threads']), *['--roof'] * roof]
    options += ['--rounds', str(rounds), '--min-round-time', str(min_round_time)]
    return file.path, run_cases(file, cases, command, options, again=again, told=told)


def run_cases(
    file: SuiteFile,
    cases: Sequence[SuiteCase],
    command: Sequence[str],
    options: Sequence[str],
    *,
    again: bool = False,
    told: Told | None = None,
) -> list[CaseResult]:
    """Time cases one after another; the file is written after each.

    Those that are in it without an error, and with the same words of the command line, are not timed again. It may have
    more rows of them than are asked for.
    """
    results = []
    for number, case in enumerate(cases, 1):
        arguments = (*case.arguments, *options)
        result = file.get(case.name)
        if again or result is None or result.error is not None or not _covers(result.arguments, arguments):
            if told is not None:
                told(number, case, None)
            result = run_case(case.name, arguments, command)
            file.put(result)
        if told is not None:
            told(number, case, result)
        results.append(result)
    return results


def _covers(there: Sequence[str], asked: Sequence[str]) -> bool:
    """Whether words of the command line are the same, but for sparsities that were not asked for."""
    rest_there, rows_there = _rows_apart(there)
    rest_asked, rows_asked = _rows_apart(asked)
    return rest_there == rest_asked and set(rows_asked) <= set(rows_there)


def _rows_apart(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sparsities of a case's words, apart from the others."""
    words = tuple(words)
    start = words.index('--sparsity') + 1 if '--sparsity' in words else len(words)
    end = next((place for place in range(start, len(words)) if words[place].startswith('--')), len(words))
    return words[:start] + words[end:], words[start:end]


def run_case(name: str, arguments: Sequence[str], command: Sequence[str]) -> CaseResult:
    """Time one case in a process of its own; whatever ends that process is the case's error."""
    arguments = tuple(arguments)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'report.json'
        done = subprocess.run(
            [*command, *arguments, '--json', str(out)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors='replace',
            check=False,
            preexec_fn=ENDS_WITH_PARENT,
        )
        report = _report(out)
    # Status 1 with a report: rows of it did not run.
    if report is not None and done.returncode in (0, 1):
        return CaseResult(name, arguments, report, None)
    return CaseResult(name, arguments, None, _reason(done))


def _report(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):  # not there, empty, or cut off
        return None


def _reason(done: subprocess.CompletedProcess) -> str:
    """Why a process gave no report."""
    if done.returncode < 0:
        number = -done.returncode
        likely = ', most likely for memory' if number == 9 else f' ({_signal_name(number)})'
        return f'killed by signal {number}{likely}'
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith('error: ')), lines[-1] if lines else '')
    return said.removeprefix('error: ') or f'ended with status {done.returncode} and without a word'


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return 'a signal without a name'


def summary(result: CaseResult) -> str:
    """What a case found, in one line for people."""
    if result.error is not None:
        return f'failed: {result.error}'
    return '; '.join(map(_row_summary, result.report['rows']))


def _row_summary(row: Mapping[str, Any]) -> str:
    name = sparsity_text(row['sparsity'])
    if row['latency'] is None:
        return f'{name} does not run'
    return f'{name} {format_ms(row["latency"]["median"])} ms ({row["speed_up"]:.2f}x)'
