"""What this server sends to others: accepted events, followed by position, and what goes along with them."""
