"""Revisions of `ops`, in one line."""
