"""The tables of schema `ops`."""
