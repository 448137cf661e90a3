"""What a backbone costs: MACs in closed form and counted, latency with its spread and environment."""

from . import macs_dynamic, macs_pit, macs_vit  # noqa: F401  they register their families
from .counter import measure_macs
from .environment import Environment
from .latency import LatencyRecord, measure_interleaved, measure_latency
from .macs import count_macs

__all__ = ['Environment', 'LatencyRecord', 'count_macs', 'measure_interleaved', 'measure_latency', 'measure_macs']
