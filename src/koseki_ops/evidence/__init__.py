"""Records that somebody else can verify: append-only, chained, signed."""
