"""Bring a release's SQL to the municipalities' databases, as nobody but each database's owner."""

__version__ = "1.0.0"
