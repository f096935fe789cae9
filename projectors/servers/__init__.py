"""What other servers say about themselves: the projection of topic `servers`."""
