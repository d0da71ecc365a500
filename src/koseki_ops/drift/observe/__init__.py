"""What is asked of a host, how, and what of its answer is believed."""
