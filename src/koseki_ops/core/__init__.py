"""What every other package stands on, and what stands on none of them."""
