"""Authorities, keys and secrets of a site: who is believed, and what is kept from whom."""
