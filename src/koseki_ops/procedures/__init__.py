"""Ordered work on the platform: switchover, rehearsal, who joins and who leaves."""
