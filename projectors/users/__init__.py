"""Accounts, devices, tokens, profiles, filters, account data and commands: the projection of topic `users`."""
