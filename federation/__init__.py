"""Talking to one other server: where it is, whether it may be reached, and asking it. Knows neither log nor tables."""
