"""Where a study lives, and how processes keep out of each other's way there."""

from .database import sqlite_path, sqlite_url
from .opening import Presence, open_storage

__all__ = ['Presence', 'open_storage', 'sqlite_path', 'sqlite_url']
