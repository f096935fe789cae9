"""Policy servers, asked about events of other servers that lack their signature; the answers are facts.

pending_policy ─▶ the room's policy server, as the tables have it ─▶ PolicyAnswered ─▶ accepted, or soft-failed
"""
