"""The exchange with the residents' registries (K-08)."""
