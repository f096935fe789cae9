"""The tables of a generation."""
