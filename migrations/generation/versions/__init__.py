"""Revisions of a generation, in one line."""
