"""What happens on the municipalities' registers: schema, requests, takeovers, the link."""
