"""Rooms and their events: the projection of topic `rooms` and of the decisions about it."""
