"""Wrapped keys of sealed fields: the projection of topic `subject_keys`."""
