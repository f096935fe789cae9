"""GET /sync: what has become visible since a token, read from one snapshot; and the waking of those who wait."""
