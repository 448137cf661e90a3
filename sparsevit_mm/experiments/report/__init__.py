"""Tables, plots and a document made from files of results."""

from .chapter import Chapter, read_chapter
from .document import write_document
from .table import rich_rows

__all__ = ['Chapter', 'read_chapter', 'rich_rows', 'write_document']
