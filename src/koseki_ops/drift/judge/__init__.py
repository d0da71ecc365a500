"""What must be true, what differs from it, of what kind that is and what mends it."""
