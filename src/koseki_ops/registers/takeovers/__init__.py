"""One municipality issues for another that is cut off, while that is declared (K-06)."""
