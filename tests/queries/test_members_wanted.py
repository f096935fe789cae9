"""Which members GET /members shows."""

from __future__ import annotations

import pytest

from annals.queries.room_state import MembersWanted


@pytest.mark.parametrize(
    ("membership", "not_membership", "taken"),
    [
        (None, None, {"join", "leave", "ban"}),
        ("join", None, {"join"}),
        (None, "join", {"leave", "ban"}),
        # "an 'or' condition: either the membership is the same as membership or is not the same as not_membership"
        ("join", "ban", {"join", "leave"}),
        ("join", "join", {"join", "leave", "ban"}),
    ],
)
def test_takes(membership: str | None, not_membership: str | None, taken: set[str]) -> None:
    wanted = MembersWanted(None, membership, not_membership)
    assert {name for name in ("join", "leave", "ban") if wanted.takes(name)} == taken
