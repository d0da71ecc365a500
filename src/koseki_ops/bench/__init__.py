"""Measurements: the figures that docs/figures.md shows, as ratios of one run."""
