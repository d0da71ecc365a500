"""What the hosts are made from and given: packages, base trees, releases, the toolkit."""
