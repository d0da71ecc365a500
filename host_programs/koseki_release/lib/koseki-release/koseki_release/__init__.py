"""Releases of the application: verify, unpack, switch, go back, keep the record."""

__version__ = "1.1.1"
