"""Whether a latency table is of the device that a process runs on."""

from typing import Any

from .conditions import check_device
from .environment import Environment
from .latency_table import LatencyTable
from .modes import ONNXRUNTIME
from .onnx_table import onnx_environment

__all__ = ['conditions_here']


def conditions_here(table: LatencyTable, *, device: str | None = None, threads: int | None = None) -> dict[str, Any]:
    """What a table of this machine says of it, for :meth:`LatencyTable.require`.

    That is its device, the name of it, and on a CPU the threads.

    Args:
        table: Any table; its own conditions are kept where they are no matter of the machine.
        device: ``cpu``, ``cuda`` or ``onnxruntime``; that of the table if not given.
        threads: Intra-op threads of torch; the present ones if not given.

    Raises:
        ValueError: If the device is of a kind that this machine does not have.
    """
    own = table.environment
    if (device or own.device) == ONNXRUNTIME:
        here = onnx_environment(own.shape, batch=own.batch, threads=threads)
        return dict(device=here.device, device_name=here.device_name, threads=here.threads)
    try:
        found = check_device(device or own.device)
    except ValueError as error:
        raise ValueError(
            f'The table is of {own.device_name}: {error} A table of a device that is elsewhere is taken with --foreign.'
        ) from error
    here = Environment.current(device=str(found), dtype=own.dtype, batch=own.batch, shape=own.shape, threads=threads)
    named = dict(device=here.device, device_name=here.device_name)
    return named | dict(threads=here.threads) if found.type == 'cpu' else named
