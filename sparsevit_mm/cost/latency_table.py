"""The latency of every site of a backbone at several sparsities, on one device (SPViT, arXiv 2112.13890).

A table may be of any device and runtime; nothing that uses one asks how it was measured. There are three ways to one:

- :func:`~sparsevit_mm.cost.measure_latency_table` where torch runs, by the moments in which blocks end.
- :func:`~sparsevit_mm.cost.table_from_latencies` where only the whole backbone can be timed, as with ONNX Runtime.
  Another runtime has to provide one function, from a setting to the seconds of a forward pass, and an
  ``Environment.elsewhere`` whose ``device`` is a name of its own.
- A file by hand, see docs/latency_budget.md.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..files import written_whole
from ..models import SparseBackbone
from ..sparsity import SparsityLayout
from .backbone_identity import BackboneIdentity
from .environment import Environment
from .table_entries import CheckedSetting, SiteLatency, check_choices

__all__ = ['FORMAT', 'LatencyTable']

FORMAT = 'sparsevit_mm.latency_table/1'
# What of an environment decides whether a table holds, in the order of messages.
CONDITIONS = ('device', 'device_name', 'dtype', 'batch', 'shape', 'threads')


@dataclass(frozen=True)
class LatencyTable:
    """What a backbone takes on a device, site by site; a latency is the sum over the sites and of the rest.

    Args:
        backbone: What it was measured for.
        environment: Where and how.
        choices: Sparsities, ascending from 0.
        sites: What each site takes at them.
        rest: Seconds of what no site governs.
        rounds: Values that medians and quartiles are taken over; None where that is not known.
        check: Settings that were measured to see how well the table predicts.

    Raises:
        ValueError: If the parts contradict each other.
    """

    backbone: BackboneIdentity
    environment: Environment
    choices: tuple[float, ...]
    sites: tuple[SiteLatency, ...]
    rest: float
    rounds: int | None = None
    check: tuple[CheckedSetting, ...] = ()

    def __post_init__(self) -> None:
        check_choices(self.choices)
        if len(self.sites) != len(self.backbone.sites):
            raise ValueError(f'the table has {len(self.sites)} sites, but the backbone {len(self.backbone.sites)}.')
        for name, site in zip(self.backbone.sites, self.sites):
            for kind, values in asdict(site).items():
                if values is None and kind != 'median':
                    continue
                if len(values) != len(self.choices) or not np.all(np.isfinite(values)) or min(values) < 0:
                    raise ValueError(
                        f'{kind} of {name} must be seconds from 0 on, one for each of the {len(self.choices)} choices, '
                        f'got {list(values)}.'
                    )
        if not (np.isfinite(self.rest) and self.rest >= 0):
            raise ValueError(f'rest must be seconds from 0 on, got {self.rest!r}.')

    @property
    def layout(self) -> SparsityLayout:
        """The sites and their groups."""
        return SparsityLayout(self.backbone.sites, self.backbone.groups)

    @cached_property
    def dense(self) -> float:
        """Seconds at sparsity 0."""
        return self.rest + sum(site.median[0] for site in self.sites)

    @cached_property
    def least(self) -> float:
        """Seconds of the fastest setting: the sparsest one, unless more sparsity costs more somewhere."""
        total = self.rest
        for span in self.layout.spans:
            best = np.zeros(len(self.choices))  # of the sites so far, by the choice of the last one
            for site in self.sites[span]:
                best = np.minimum.accumulate(best) + np.asarray(site.median)
            total += float(best.min())
        return total

    @cached_property
    def spread(self) -> float | None:
        """The distance of the quartiles as a fraction of the whole, all sites together, at the choice where it is most.

        None where the table has no quartiles.
        """
        if any(site.q1 is None or site.q3 is None for site in self.sites):
            return None
        sums = np.array([[site.q1, site.median, site.q3] for site in self.sites]).sum(0)
        return float(((sums[2] - sums[0]) / np.maximum(self.rest + sums[1], 1e-12)).max())

    def site_seconds(self, site: int, sparsity: float | np.ndarray) -> float | np.ndarray:
        """Seconds of a site, linear between the choices.

        Args:
            site: Its index.
            sparsity: One or more values up to the greatest choice.
        """
        return np.interp(sparsity, self.choices, self.sites[site].median)

    def predict(self, sparsity: float | Sequence[float]) -> float:
        """Seconds of the whole backbone at a sparsity.

        Raises:
            ValueError: If the sparsity does not fit the sites, or exceeds what was measured.
        """
        values = self.layout.normalize(sparsity)
        for name, value in zip(self.backbone.sites, values):
            if value > self.choices[-1]:
                raise ValueError(
                    f'sparsity of {name} is {value:g}, but the latency table was measured from 0 to '
                    f'{self.choices[-1]:g}: measure one with greater choices.'
                )
        return self.rest + sum(float(self.site_seconds(i, value)) for i, value in enumerate(values))

    def check_errors(self) -> tuple[float, ...]:
        """Relative errors of the predictions without their sign; empty where none was checked."""
        return tuple(abs(setting.error) for setting in self.check)

    def require(self, backbone: SparseBackbone, **conditions: Any) -> None:
        """See that the table is one of a backbone, under conditions.

        Args:
            backbone: What it is to be used for.
            **conditions: Those of ``device``, ``device_name``, ``dtype``, ``batch``, ``shape`` and ``threads`` that
                must be what they were in the measurement.

        Raises:
            ValueError: If something differs; the message names all that does, and the command for a new table.
        """
        if unknown := sorted(set(conditions) - set(CONDITIONS)):
            raise ValueError(f'conditions of a latency table are {", ".join(CONDITIONS)}; got {", ".join(unknown)}.')
        differences = self.backbone.differences(backbone)
        for name in CONDITIONS:
            if name not in conditions:
                continue
            own, wanted = (_plain(name, value) for value in (getattr(self.environment, name), conditions[name]))
            if own != wanted:
                differences.append(f'{name}: {_shown(own)} in the table, {_shown(wanted)} wanted')
        if differences:
            raise ValueError(
                f'The latency table does not fit. {"; ".join(differences)}. Measure one for what is wanted: '
                f'{self._command(conditions)}'
            )

    def _command(self, conditions: Mapping[str, Any]) -> str:
        wanted = {name: conditions.get(name, getattr(self.environment, name)) for name in CONDITIONS}
        height, width = wanted['shape']
        if _plain('device', wanted['device']) not in ('cpu', 'cuda'):
            return f'on {wanted["device_name"]}, see docs/latency_budget.md'
        return (
            f'python tools/latency_table.py CONFIG --shape {height} {width} --batch {wanted["batch"]} '
            f'--dtype {wanted["dtype"]} --device {wanted["device"]} --out table.json'
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        sites = ({key: value and list(value) for key, value in asdict(site).items()} for site in self.sites)
        return {
            'format': FORMAT,
            'backbone': self.backbone.to_dict(),
            'environment': self.environment.to_dict(),
            'choices': list(self.choices),
            'rest': self.rest,
            'sites': dict(zip(self.backbone.sites, sites)),
            'rounds': self.rounds,
            'check': [{**asdict(setting), 'sparsity': list(setting.sparsity)} for setting in self.check],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> 'LatencyTable':
        """The inverse of :meth:`to_dict`. Spreads, rounds, checks and the signature of the backbone may be missing.

        Raises:
            ValueError: If something else is missing or contradicts itself.
        """
        if not isinstance(values, Mapping) or values.get('format') != FORMAT:
            found = values.get('format') if isinstance(values, Mapping) else type(values).__name__
            raise ValueError(f'its format must be {FORMAT!r}, got {found!r}.')
        try:
            backbone = BackboneIdentity.from_dict(values['backbone'])
            return cls(
                backbone=backbone,
                environment=Environment.elsewhere(**values['environment']),
                choices=tuple(map(float, values['choices'])),
                sites=tuple(SiteLatency.from_dict(values['sites'][name]) for name in backbone.sites),
                rest=float(values['rest']),
                rounds=values.get('rounds'),
                check=tuple(CheckedSetting.from_dict(setting) for setting in values.get('check') or ()),
            )
        except KeyError as error:
            raise ValueError(f'{error} is missing.') from error
        except (TypeError, AttributeError) as error:
            raise ValueError(f'a value is of a wrong kind: {error}.') from error

    def save(self, path: str | os.PathLike) -> None:
        """Write a JSON file, which appears as a whole or not at all.

        Raises:
            OSError: If it cannot be written.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as unfinished:
            unfinished.write_text(json.dumps(self.to_dict(), indent=2) + '\n')

    @classmethod
    def load(cls, path: str | os.PathLike) -> 'LatencyTable':
        """Read what :meth:`save` has written, or what was written by hand.

        Raises:
            ValueError: If there is no such file, or it is damaged or no latency table.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text()))
        except (OSError, ValueError) as error:
            raise ValueError(
                f'latency table {str(path)!r} cannot be read: {error} Measure one by tools/latency_table.py, or mend '
                f'the file; docs/latency_budget.md has the format.'
            ) from error


def _plain(name: str, value: Any) -> Any:
    """A condition as it is compared: sizes as tuples, ``cuda:1`` as ``cuda``, dtypes of torch by their names."""
    if name == 'shape':
        return tuple(value)
    if name == 'device':
        return str(value).partition(':')[0]
    return str(value).removeprefix('torch.') if name == 'dtype' else value


def _shown(value: Any) -> str:
    return 'x'.join(map(str, value)) if isinstance(value, tuple) else str(value)
