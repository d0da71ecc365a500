"""The plan: inventory and site, the typed model, its rules, and what follows from it alone."""
