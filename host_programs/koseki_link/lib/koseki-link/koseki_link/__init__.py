"""The engine of the registry link: files of one municipality, in order, each record once."""

__version__ = "1.0.2"
