"""EDUs: what each says, as far as its origin may say it.

A server speaks for its own users only. What an EDU claims about a room counts while the user is in it, which
`ingest.inbound.standing` finds out for all claims of a transaction together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from annals.ingest.inbound.metrics import count
from annals.matrix.errors import MatrixError
from annals.matrix.identifiers import domain_of, is_event_id, is_room_id, is_user_id

READ = "m.read"
MAIN_THREAD = "main"
_MS_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Typing:
    """A user types in a room, or has stopped."""

    room_id: str
    user_id: str
    is_typing: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """A user has read a room, or a thread of it, up to an event. `ts_ms` None: no time was given."""

    room_id: str
    user_id: str
    event_id: str
    thread_id: str | None
    ts_ms: int | None


RoomClaim = Typing | Receipt


def room_claims(edus: list[Any], origin: str) -> list[RoomClaim]:
    """What the EDUs say about users in rooms; of what is said again the last counts.

    Nothing raises: what makes no sense is left out and counted.
    """
    claims: dict[tuple[str, ...], RoomClaim] = {}
    for edu in edus:
        kind, content = _kind_and_content(edu)
        reader = _READERS.get(kind)
        for claim in reader(content, origin) if reader is not None else ():
            thread = claim.thread_id or "" if isinstance(claim, Receipt) else ""
            claims[kind, claim.room_id, claim.user_id, thread] = claim
    return list(claims.values())


def count_unknown(edus: list[Any], known: Collection[str]) -> None:
    """Count the EDUs that nothing here reads."""
    for edu in edus:
        kind, _ = _kind_and_content(edu)
        if kind not in _READERS and kind not in known:
            count("edu", "unknown")


def contents_of(edus: list[Any], kind: str) -> Iterator[Mapping[str, Any]]:
    """The contents of the EDUs of one type."""
    for edu in edus:
        found, content = _kind_and_content(edu)
        if found == kind:
            yield content


def is_of(user_id: object, origin: str) -> bool:
    """Whether this is a user of that server."""
    try:
        return type(user_id) is str and is_user_id(user_id) and domain_of(user_id) == origin
    except MatrixError:
        return False


def _kind_and_content(edu: Any) -> tuple[str, Mapping[str, Any]]:
    kind, content = (edu.get("edu_type"), edu.get("content")) if type(edu) is dict else (None, None)
    return (kind, content) if type(kind) is str and type(content) is dict else ("", {})


def _typing(content: Mapping[str, Any], origin: str) -> Iterator[RoomClaim]:
    room_id, user_id, is_typing = content.get("room_id"), content.get("user_id"), content.get("typing")
    if not is_of(user_id, origin) or type(is_typing) is not bool or not _is_room(room_id):
        count("m.typing", "refused")
        return
    yield Typing(room_id, user_id, is_typing)  # type: ignore[arg-type]


def _receipts(content: Mapping[str, Any], origin: str) -> Iterator[RoomClaim]:
    for room_id, by_type in content.items():
        # Private receipts are nobody's business but their user's server's.
        by_user = by_type.get(READ) if type(by_type) is dict and _is_room(room_id) else None
        for user_id, receipt in by_user.items() if type(by_user) is dict else ():
            claim = _receipt(room_id, user_id, receipt) if is_of(user_id, origin) else None
            if claim is None:
                count("m.receipt", "refused")
            else:
                yield claim


def _receipt(room_id: str, user_id: str, receipt: Any) -> Receipt | None:
    event_ids, data = (receipt.get("event_ids"), receipt.get("data")) if type(receipt) is dict else (None, None)
    event_id = event_ids[-1] if type(event_ids) is list and event_ids else None
    if type(event_id) is not str or not is_event_id(event_id):
        return None
    data = data if type(data) is dict else {}
    ts_ms, thread_id = data.get("ts"), data.get("thread_id")
    if thread_id is not None and not (type(thread_id) is str and (thread_id == MAIN_THREAD or is_event_id(thread_id))):
        return None
    has_time = type(ts_ms) is int and 0 <= ts_ms <= _MS_MAX
    return Receipt(room_id, user_id, event_id, thread_id, ts_ms if has_time else None)


def _is_room(room_id: object) -> bool:
    return type(room_id) is str and is_room_id(room_id)


_READERS: Mapping[str, Callable[[Mapping[str, Any], str], Iterator[RoomClaim]]] = {
    "m.typing": _typing,
    "m.receipt": _receipts,
}
