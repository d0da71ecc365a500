"""A person's session on a municipality's database, under an open request (K-05)."""
