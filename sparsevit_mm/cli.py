"""What the command-line tools share: options, and how they end."""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import DictAction

__all__ = [
    'DEBUG_VARIABLE',
    'ConfigOptions',
    'add_config_options',
    'add_launcher_options',
    'add_model',
    'run_tool',
]

DEBUG_VARIABLE = 'SPARSEVIT_MM_DEBUG'

# Raised for what a user can mend: a wrong option or config, a missing, foreign or unwritable file.
USER_ERRORS = (ValueError, OSError)


class ConfigOptions(DictAction):
    """``--cfg-options KEY=VALUE ...`` of mm's tools; a word without ``=`` is an error that names it."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: str = ''
    ) -> None:
        """Parse the words behind the option."""
        for word in values:
            if '=' not in word:
                parser.error(f'{option_string} takes KEY=VALUE, such as model.backbone.sparsity=0.5, got {word!r}')
        super().__call__(parser, namespace, values, option_string)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds a config, and a checkpoint that is ``None`` where the word is 'none'."""
    parser.add_argument('config', metavar='CONFIG', help='path, or mmdet::..., mmseg::..., mmdet3d::...; stock or ours')
    parser.add_argument(
        'checkpoint',
        metavar='CHECKPOINT',
        type=lambda word: None if word.lower() == 'none' else word,
        help="weights, or 'none' for random ones",
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Adds what every tool takes: overrides of the config, and the traceback of an error."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, metavar='KEY=VALUE', help='overrides of the config'
    )
    parser.add_argument('--debug', action='store_true', help='show the traceback of an error')


def add_launcher_options(parser: argparse.ArgumentParser) -> None:
    """Adds what tools that may run in several processes take, as mm's do."""
    add = parser.add_argument
    add('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none', help='what started this process')
    add('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')


def run_tool(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Run a tool, and turn a user's mistake into one line on stderr instead of a traceback.

    With ``--debug`` on the command line, or ``SPARSEVIT_MM_DEBUG=1``, the traceback stays.

    Args:
        main: The tool; it takes the command line without ``--debug`` and may return an exit status.
        argv: The command line without the name of the program; that of the process if it is None.

    Returns:
        The exit status: 0, or what ``main`` returns, 2 after a user's mistake, 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = '--debug' in argv or os.environ.get(DEBUG_VARIABLE, '') not in ('', '0')
    try:
        return main([argument for argument in argv if argument != '--debug']) or 0
    except USER_ERRORS as error:
        if debug:
            raise
        print(f'error: {_in_short(error)}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    finally:
        _leave_process_group()


def _leave_process_group() -> None:
    """Ends the process group before the interpreter ends, which could abort or hang with its threads still running.

    Destroying a gloo group joins its threads under the interpreter lock, and they want that lock to let go of
    finished work; so models that hold the group go first, and the threads get a moment.
    """
    torch = sys.modules.get('torch')
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        gc.collect()
        time.sleep(0.2)
        torch.distributed.destroy_process_group()


def _in_short(error: Exception) -> str:
    text = str(error).strip()
    if text.startswith('Caught ') and 'Traceback' in text:  # torch packs a data worker's traceback into the message
        text = text.splitlines()[-1]
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f'{error.filename}: {error.strerror}'
    return text or type(error).__name__
