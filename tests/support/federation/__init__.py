"""Whole homeservers beside each other, ours and Synapse, on loopback."""
