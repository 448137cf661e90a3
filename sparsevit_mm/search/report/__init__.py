"""What a search leaves behind for people: reports, pictures and tables."""

from .content import format_sparsity, table_rows
from .files import REPORT_FILES, write_report

__all__ = ['REPORT_FILES', 'format_sparsity', 'table_rows', 'write_report']
