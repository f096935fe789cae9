"""Who asks, and whether they may: access tokens, interactive authentication, limits."""
