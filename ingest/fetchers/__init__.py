"""Answers to `wanted`: what rooms lack, asked of other servers, verified, and put on the log as facts."""
