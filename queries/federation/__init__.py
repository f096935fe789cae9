"""What other servers may read."""
