"""Small Hypothesis runs, without deadlines: the machine may be busy with other things."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("quick", max_examples=60, deadline=None)
settings.load_profile("quick")
