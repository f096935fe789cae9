"""What other servers push: transactions of PDUs and EDUs, verified, then facts."""
