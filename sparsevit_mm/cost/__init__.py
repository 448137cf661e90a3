"""What a backbone costs: MACs in closed form and counted, latency with its spread and environment, site by site."""

from . import macs_dynamic, macs_pit, macs_vit  # noqa: F401  they register their families
from .counter import measure_macs
from .environment import Environment
from .fit import fit_to_budget
from .latency import LatencyRecord, measure_interleaved, measure_latency
from .latency_table import LatencyTable
from .macs import count_macs
from .measure_table import measure_latency_table
from .whole_latencies import table_from_latencies

__all__ = [
    'Environment',
    'LatencyRecord',
    'LatencyTable',
    'count_macs',
    'fit_to_budget',
    'measure_interleaved',
    'measure_latency',
    'measure_latency_table',
    'measure_macs',
    'table_from_latencies',
]
