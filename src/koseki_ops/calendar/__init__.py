"""Dates as a Japanese municipality writes and counts them: eras, months, fiscal years."""
