"""Verification: ask the running hosts what is true and hold it against the inventory."""
