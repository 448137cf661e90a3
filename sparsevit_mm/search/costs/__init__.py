"""Cost models of a backbone: MACs in closed form, and latency by a table of the device."""

from .macs import MacsCost
from .table import TableCost

__all__ = ['COST_MODELS', 'OF_LATENCY', 'MacsCost', 'TableCost']

COST_MODELS = {'latency': TableCost, 'macs': MacsCost}
# Options of a search that mean nothing where MACs are counted.
OF_LATENCY = ('latency_table', 'foreign', 'whole_model', 'latency_rounds')
