"""Where and how something was measured: a latency means nothing without it."""

import platform as _platform
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

__all__ = ['Environment']

_INCIDENTAL = ('python', 'platform')


@dataclass(frozen=True)
class Environment:
    """The conditions of a measurement.

    Args:
        device: Torch device that ran it, such as ``cpu`` or ``cuda``.
        device_name: The processor or graphics card; for a CPU with the instruction set torch uses there.
        dtype: ``float32``, or the half precision of autocast.
        batch: Images in one forward.
        shape: Height and width of the images in pixels.
        threads: Intra-op threads of torch.
        torch: Version of torch.
        python: Version of Python.
        platform: Operating system and machine.
    """

    device: str
    device_name: str
    dtype: str
    batch: int
    shape: tuple[int, int]
    threads: int
    torch: str
    python: str
    platform: str

    @classmethod
    def current(
        cls, *, device: str, dtype: str, batch: int, shape: tuple[int, int], threads: int | None = None
    ) -> 'Environment':
        """The environment of this process; ``threads`` are torch's present ones if not given."""
        height, width = shape
        return cls(
            device=str(device),
            device_name=_device_name(torch.device(device)),
            dtype=dtype,
            batch=int(batch),
            shape=(int(height), int(width)),
            threads=torch.get_num_threads() if threads is None else int(threads),
            torch=str(torch.__version__),
            python='.'.join(map(str, sys.version_info[:3])),
            platform=f'{_platform.system()} {_platform.release()} {_platform.machine()}',
        )

    @classmethod
    def elsewhere(cls, **values: Any) -> 'Environment':
        """That of a device that does not run torch, such as ``device='onnxruntime'``.

        Args:
            **values: Fields; ``device``, ``threads``, ``torch``, ``python`` and ``platform`` may be left out.

        Raises:
            ValueError: If another field is missing, or one is unknown.
        """
        unknown = {'device': 'unknown', 'threads': 0, 'torch': 'unknown', 'python': 'unknown', 'platform': 'unknown'}
        return cls.from_dict({**unknown, **values})

    def differences(self, other: 'Environment') -> tuple[str, ...]:
        """Names of the conditions in which two environments differ, those left out that a latency hardly feels.

        Left out are the versions of Python and of the operating system.
        """
        names = (field.name for field in fields(self) if field.name not in _INCIDENTAL)
        return tuple(name for name in names if getattr(self, name) != getattr(other, name))

    def same_conditions(self, other: 'Environment') -> bool:
        """Whether latencies of the two may be compared."""
        return not self.differences(other)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), 'shape': list(self.shape)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'Environment':
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: If a field is missing or unknown.
        """
        check_fields(cls, values)
        return cls(**{**values, 'shape': tuple(values['shape'])})

    def describe(self) -> str:
        """One line for people."""
        threads = f', {self.threads} thread{"s" * (self.threads != 1)}' if self.device == 'cpu' else ''
        version = '' if self.torch == 'unknown' else f', torch {self.torch}'
        return (
            f'{self.device_name}{threads}, {self.dtype}, batch {self.batch}, {self.shape[0]}x{self.shape[1]} pixels'
            f'{version}'
        )


def check_fields(cls: type, values: Mapping[str, Any]) -> None:
    """Refuse a mapping that is not what the dataclass ``cls`` has written.

    Raises:
        ValueError: If a field is missing or unknown.
    """
    known = {field.name for field in fields(cls)}
    missing, unknown = sorted(known - set(values)), sorted(set(values) - known)
    if missing or unknown:
        what = '; '.join(
            f'{kind} {", ".join(names)}' for kind, names in (('missing', missing), ('unknown', unknown)) if names
        )
        raise ValueError(f'This is no {cls.__name__} that to_dict() has written: {what}.')


def _device_name(device: torch.device) -> str:
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    cpuinfo = Path('/proc/cpuinfo')
    return _cpu_name(cpuinfo.read_text(errors='replace') if cpuinfo.is_file() else '')


def _cpu_name(cpuinfo: str) -> str:
    """Virtual machines may hide all but the maker, so generations are told apart by family and model where given."""
    found = dict(re.findall(r'^(model name|cpu family|model)\s*:\s*(.+?)\s*$', cpuinfo, re.MULTILINE))
    name = found.get('model name') or _platform.processor() or _platform.machine()
    which = [torch.backends.cpu.get_cpu_capability()]
    if 'cpu family' in found and 'model' in found:
        which.append(f'family {found["cpu family"]} model {found["model"]}')
    return f'{name} ({", ".join(which)})'
