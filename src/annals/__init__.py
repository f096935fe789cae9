"""Annals: a Matrix homeserver whose only truth is an append-only log."""
