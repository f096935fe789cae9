"""Endpoints for operators, under /_synapse where operators' tools expect them."""
