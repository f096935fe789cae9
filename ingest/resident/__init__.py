"""What other servers hand in for our rooms and our users: joins, leaves and knocks of theirs, invites for ours."""
