"""What people and other tools are told of a sweep."""
