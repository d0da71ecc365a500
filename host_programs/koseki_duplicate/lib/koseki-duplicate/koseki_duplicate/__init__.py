"""The duplicates (副本) of one municipality: close its days, count, extract, exchange (K-13)."""

__version__ = "1.0.0"
