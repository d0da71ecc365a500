"""What is kept of every sweep: by change, chained, the newest signed."""
