"""What a host that keeps watch does by the clock."""
