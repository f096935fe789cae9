"""Who is online: tailed from topic `ephemeral`, kept in memory, over by itself.

A /sync is told what changed of users that share a room with its own; whoever is not heard of is offline.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from annals.database.snapshot import Snapshot
from annals.database.text import restore
from annals.matrix.presence import OFFLINE, STATES, UNKNOWN, Presence
from annals.queries.sync.advice import EphemeralCount
from annals.schemas.facts.ephemeral import PresenceSet

#: Beyond so many, those whose last change is the longest ago are forgotten.
USERS_MAX = 100_000
#: Of so many users, those that changed last, one answer may tell.
TOLD_MAX = 10_000

_IN_ROOMS_SQL = """
    SELECT DISTINCT m.user_id FROM unnest(%s::text[]) AS w(user_id)
    JOIN room_memberships m ON m.user_id = w.user_id AND m.membership = 'join' AND m.room_id = ANY (%s)
    JOIN current_state cs ON cs.room_id = m.room_id AND cs.type = 'm.room.member' AND cs.state_key = m.user_id
    WHERE cs.membership = 'join'
"""


@dataclass(frozen=True, slots=True)
class _Heard:
    """What was said last of a user. `number`: what the count became with the latest change; `source`: its offset."""

    presence: Presence
    until_ms: int
    reporter: str | None
    number: int
    source: int


@dataclass(frozen=True, slots=True)
class PresenceNews:
    """What an answer may tell: whose presence changed since its token, and who else is there (by any thread)."""

    changed: Mapping[str, Presence] = field(default_factory=dict)
    present: Callable[[], Mapping[str, Presence]] = dict
    now_ms: int = 0


NO_NEWS = PresenceNews()


class Presences:
    """The presence of all users, of ours and of others; changed on the event loop only."""

    def __init__(self, clock: Callable[[], int], count: EphemeralCount) -> None:
        self._clock, self._count = clock, count
        # In the order of their last change.
        self._users: dict[str, _Heard] = {}

    def apply(self, fact: PresenceSet, offset: int) -> bool:
        """A record of the topic; whether it changed anything that is shown. One that was applied says nothing again."""
        before = self._users.get(fact.user_id)
        if fact.presence not in STATES or (before is not None and before.source >= offset):
            return False
        presence = Presence.recorded(fact.presence, fact.status_msg, fact.last_active_ms, fact.currently_active)
        is_over = fact.presence == OFFLINE or fact.until_ms <= self._clock()
        if is_over:
            presence = replace(presence, presence=OFFLINE, currently_active=False)
        reporter = None if is_over else fact.reporter
        number = self._count.at(offset)
        if presence.says_the_same_as(UNKNOWN if before is None else before.presence):
            if before is not None:
                # An entry that stays keeps its place in the order.
                self._users[fact.user_id] = _Heard(presence, fact.until_ms, reporter, before.number, offset)
            return False
        self._put(fact.user_id, _Heard(presence, fact.until_ms, reporter, number, offset))
        return True

    def expire(self) -> list[str]:
        """Users of whom nobody has said for long enough that they are there are offline; who they are."""
        now_ms = self._clock()
        over = [name for name, heard in self._users.items() if heard.reporter is not None and heard.until_ms <= now_ms]
        for user_id in over:
            heard = self._users[user_id]
            offline = replace(heard.presence, presence=OFFLINE, currently_active=False)
            self._put(user_id, replace(heard, presence=offline, reporter=None, number=self._count.bump()))
        return over

    def of(self, user_id: str) -> Presence:
        """A user's presence, as far as it was heard of."""
        heard = self._users.get(user_id)
        return UNKNOWN if heard is None else heard.presence

    def reporter(self, user_id: str) -> str | None:
        """Who says that the user is there; None for who is offline."""
        heard = self._users.get(user_id)
        return None if heard is None else heard.reporter

    def news(self, token: int | None) -> PresenceNews:
        """What changed since a token; without one, all who are there."""
        changed: dict[str, Presence] = {}
        since = 0 if token is None else self._count.since(token)
        for user_id in reversed(self._users):
            heard = self._users[user_id]
            if heard.number <= since or len(changed) >= TOLD_MAX:
                break
            if token is not None or heard.reporter is not None:
                changed[user_id] = heard.presence
        return PresenceNews(changed, self._present, self._clock())

    def _present(self) -> dict[str, Presence]:
        # Called by other threads: the list is made in one go.
        return {user_id: heard.presence for user_id, heard in list(self._users.items()) if heard.reporter is not None}

    def _put(self, user_id: str, heard: _Heard) -> None:
        self._users.pop(user_id, None)
        self._users[user_id] = heard
        if len(self._users) > USERS_MAX:
            del self._users[next(iter(self._users))]


def told(
    snapshot: Snapshot,
    news: PresenceNews,
    user_id: str,
    joined: Collection[str],
    came: Sequence[str],
    members: Collection[str],
) -> dict[str, Presence]:
    """Whose presence an answer tells: of the users in the rooms `joined`, those that changed, those of the rooms that
    the user `came` into, and `members` whose membership it tells; and the user's own."""
    found = {user_id: news.changed[user_id]} if user_id in news.changed else {}
    present = news.present() if came or members else {}
    wanted = dict(news.changed) | {name: present[name] for name in members if name in present}
    for rooms, among in ((list(joined), wanted), (list(came), present)):
        names = [name for name in among if name != user_id and name not in found]
        if rooms and names:
            rows = snapshot.rows(_IN_ROOMS_SQL, (names[:TOLD_MAX], rooms))
            found |= {restore(name): among[restore(name)] for (name,) in rows}
    return found
