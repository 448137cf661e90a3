"""Cost models of a backbone: MACs in closed form, and latency by a table of the device."""

from .macs import MacsCost
from .table import TableCost

__all__ = ['COST_MODELS', 'MacsCost', 'TableCost']

COST_MODELS = {'latency': TableCost, 'macs': MacsCost}
