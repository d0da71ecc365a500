"""Drift: what is not as the last apply left it, asked of every host in one round trip."""
