"""Tables of the rooms group. `events` is the decisions table: what was decided stands beside what was said.

`info["rebuild"]` says what a rebuild promises. Rows carry `source` and `position` (annals.projectors.columns).
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    func,
    literal_column,
    text,
)

from annals.projectors.columns import provenance
from annals.projectors.metadata import METADATA

_EXACT = {"rebuild": "exact"}

# client_json        the event as clients get it, without `unsigned` (annals.projectors.rooms.event_json)
# federation_json    what else the PDU has; the two give back the exact PDU
# depth              clamped to 64 bits; the exact one is in federation_json
# state_before/after state ids; null for outliers and what is not in the DAG
# missing            what a parked event waits for; of the accepted join by which we came into the room, its prev_events
# redacts            event id that an m.room.redaction names; redacted_by: the redaction that took effect
# replaces           the event that held the key before this state event
# relates_to         parent of m.relates_to
EVENTS = Table(
    "events",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    *provenance(),
    Column("room_version", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("state_key", Text),
    Column("sender", Text, nullable=False),
    Column("depth", BigInteger, nullable=False),
    Column("origin_server_ts", BigInteger, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("rule", Text),
    Column("reason", Text),
    Column("outlier", Boolean, nullable=False),
    Column("backfilled", Boolean, nullable=False),
    Column("provisional", Boolean, nullable=False),
    Column("state_before", BigInteger),
    Column("state_after", BigInteger),
    Column("prev_events", ARRAY(Text), nullable=False),
    Column("auth_events", ARRAY(Text), nullable=False),
    Column("missing", ARRAY(Text)),
    Column("client_json", Text, nullable=False),
    Column("federation_json", Text, nullable=False),
    Column("membership", Text),
    Column("redacts", Text),
    Column("redacted_by", Text),
    Column("replaces", Text),
    Column("relates_to", Text),
    Column("idempotency_key", Text),
    info=_EXACT,
)
Index("events_by_position", EVENTS.c.room_id, EVENTS.c.position)
Index("events_by_depth", EVENTS.c.room_id, EVENTS.c.depth, EVENTS.c.position)
Index("events_by_partition", EVENTS.c.partition, EVENTS.c.position)
Index(
    "events_by_key",
    EVENTS.c.room_id,
    EVENTS.c.idempotency_key,
    postgresql_where=EVENTS.c.idempotency_key.is_not(None),
)
Index("events_parked", EVENTS.c.room_id, postgresql_where=EVENTS.c.verdict == "parked")
Index("events_pending_policy", EVENTS.c.room_id, postgresql_where=EVENTS.c.verdict == "pending_policy")
Index(
    "events_entering",
    EVENTS.c.room_id,
    postgresql_where=EVENTS.c.missing.is_not(None) & (EVENTS.c.verdict == "accepted"),
)
# What other servers look for: an event by its id alone, and the nearest one to a moment.
Index("events_by_id", EVENTS.c.event_id, postgresql_using="hash")
Index(
    "events_by_time",
    EVENTS.c.room_id,
    EVENTS.c.origin_server_ts,
    postgresql_where=(EVENTS.c.verdict == "accepted") & ~EVENTS.c.outlier,
)
Index("events_related", EVENTS.c.room_id, EVENTS.c.relates_to, postgresql_where=EVENTS.c.relates_to.is_not(None))

# Facts that repeat the idempotency key of an earlier one of their room.
DUPLICATES = Table(
    "duplicates",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("first_event_id", Text, nullable=False),
    Column("first_source", BigInteger, nullable=False),
    *provenance(),
    info=_EXACT,
)

# current_fingerprint: SHA-256 of the current state's sum. A row is made by the create event.
ROOMS = Table(
    "rooms",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("room_version", Text, nullable=False),
    Column("create_event_id", Text, nullable=False),
    Column("creator", Text, nullable=False),
    Column("current_state_id", BigInteger),
    Column("current_fingerprint", LargeBinary),
    Column("min_depth", BigInteger),
    Column("resumed_position", BigInteger),
    *provenance(),
    info=_EXACT,
)

Index(
    "rooms_resumed",
    ROOMS.c.partition,
    ROOMS.c.resumed_position,
    postgresql_where=ROOMS.c.resumed_position.is_not(None),
)

# Rooms that stand still, whether or not they have a row in `rooms`; `source` is the fact that cannot be decided.
HALTED_ROOMS = Table(
    "halted_rooms",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("error", Text, nullable=False),
    *provenance(),
    info=_EXACT,
)

WAITING_FACTS = Table(
    "waiting_facts",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("source", BigInteger, primary_key=True),
    Column("partition", SmallInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    info=_EXACT,
)

FORWARD_EXTREMITIES = Table(
    "forward_extremities",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    *provenance(),
    info=_EXACT,
)

CURRENT_STATE = Table(
    "current_state",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("state_key", Text, primary_key=True),
    Column("event_id", Text, nullable=False),
    Column("membership", Text),
    *provenance(),
    info=_EXACT,
)

# The rooms that a server is in: what it is sent when it comes back, and whether it may ask.
Index(
    "current_state_joined_by_server",
    func.substr(CURRENT_STATE.c.state_key, func.strpos(CURRENT_STATE.c.state_key, literal_column("':'")) + text("1")),
    CURRENT_STATE.c.room_id,
    postgresql_where=text("type = 'm.room.member' AND membership = 'join'"),
    _table=CURRENT_STATE,
)

# The stream of changes of current states, by stream position; event_id null: the key is gone.
CURRENT_STATE_DELTAS = Table(
    "current_state_deltas",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("type", Text, nullable=False),
    Column("state_key", Text, nullable=False),
    Column("event_id", Text),
    Column("previous_event_id", Text),
    Column("membership", Text),
    Column("partition", SmallInteger, nullable=False),
    Column("source", BigInteger, nullable=False),
    info=_EXACT,
)
Index(
    "current_state_deltas_by_key",
    CURRENT_STATE_DELTAS.c.room_id,
    CURRENT_STATE_DELTAS.c.type,
    CURRENT_STATE_DELTAS.c.state_key,
    CURRENT_STATE_DELTAS.c.position,
)
Index("current_state_deltas_by_partition", CURRENT_STATE_DELTAS.c.partition, CURRENT_STATE_DELTAS.c.position)

# Every membership event that was accepted, whether or not it is current.
ROOM_MEMBERSHIPS = Table(
    "room_memberships",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("membership", Text, nullable=False),
    *provenance(),
    info=_EXACT,
)
Index("room_memberships_by_user", ROOM_MEMBERSHIPS.c.user_id, ROOM_MEMBERSHIPS.c.room_id, ROOM_MEMBERSHIPS.c.position)

# The current membership of our own users, by user: what /sync begins with.
LOCAL_CURRENT_MEMBERSHIP = Table(
    "local_current_membership",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("event_id", Text, nullable=False),
    Column("membership", Text, nullable=False),
    Column("forgotten", Boolean, nullable=False),
    *provenance(),
    Index("local_current_membership_by_user", "user_id", "room_id"),
    info=_EXACT,
)

# Our users whose own membership a switch of generations made another one, or none, and the last time it did.
MEMBERSHIPS_REBUILT = Table(
    "memberships_rebuilt",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    *provenance(),
    Index("memberships_rebuilt_by_user", "user_id", "partition", "position"),
    info=_EXACT,
)

# element_sum: the fingerprint's sum, 256 bytes. base_id null: from nothing.
STATES = Table(
    "states",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("state_id", BigInteger, primary_key=True),
    Column("base_id", BigInteger),
    Column("depth", BigInteger, nullable=False),
    Column("element_sum", LargeBinary, nullable=False),
    *provenance(),
    info=_EXACT,
)

# How a state differs from its base; event_id null: the key is gone.
STATE_DELTAS = Table(
    "state_deltas",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("state_id", BigInteger, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("state_key", Text, primary_key=True),
    Column("event_id", Text),
    info=_EXACT,
)

# What a room lacks; kind: prev or auth.
WANTED = Table(
    "wanted",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("wanted_by", Text, nullable=False),
    *provenance(),
    info=_EXACT,
)

# Joins, knocks and leaves by way of other servers. kind: join, knock or leave. content: JSON of what the member event
# carries besides its membership (null where it is sealed). outcome: completed, failed or attached; null while open.
HANDSHAKES = Table(
    "handshakes",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("handshake_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("servers", ARRAY(Text), nullable=False),
    Column("content", Text),
    Column("attached_to", Text),
    Column("holds_queue", Boolean, nullable=False),
    Column("outcome", Text),
    Column("http_status", Integer),
    Column("errcode", Text),
    Column("reason", Text),
    Column("event_id", Text),
    *provenance(),
    info=_EXACT,
)
Index("handshakes_open", HANDSHAKES.c.room_id, postgresql_where=HANDSHAKES.c.outcome.is_(None))

# Facts of a room that is being joined, which wait for the end of that.
QUEUED_FACTS = Table(
    "queued_facts",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("source", BigInteger, primary_key=True),
    Column("partition", SmallInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    info=_EXACT,
)

# What other servers named of a room's state or auth chain before an event; role: state or auth.
STATE_SETS = Table(
    "state_sets",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("set_id", Text, primary_key=True),
    Column("role", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    *provenance(),
    info=_EXACT,
)

# What our users are shown of rooms that they are invited to, or knock at: stripped state events, JSON of a list.
ROOM_PREVIEWS = Table(
    "room_previews",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("user_id", Text, primary_key=True),
    Column("event_id", Text, nullable=False),
    Column("room_state", Text, nullable=False),
    *provenance(),
    Index("room_previews_by_user", "user_id", "room_id"),
    info=_EXACT,
)

# Redactions that came before their target.
PENDING_REDACTIONS = Table(
    "pending_redactions",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("redacts", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    *provenance(),
    info=_EXACT,
)

# The chain cover of the auth graph (annals.rooms.auth_chains). Derived: an index that was begun in the midst of a log
# gives other places than one that saw all of it, and answers the same.
AUTH_CHAINS = Table(
    "auth_chains",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("chain_id", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("state_key", Text),
    info={"rebuild": "derived"},
)
Index("auth_chains_by_place", AUTH_CHAINS.c.room_id, AUTH_CHAINS.c.chain_id, AUTH_CHAINS.c.sequence, unique=True)

# What an event cites of other chains: asked from the target upwards, and from the event downwards.
AUTH_CHAIN_LINKS = Table(
    "auth_chain_links",
    METADATA,
    Column("room_id", Text, primary_key=True),
    Column("to_chain_id", BigInteger, primary_key=True),
    Column("chain_id", BigInteger, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column("to_sequence", BigInteger, nullable=False),
    info={"rebuild": "derived"},
)
Index("auth_chain_links_by_chain", AUTH_CHAIN_LINKS.c.room_id, AUTH_CHAIN_LINKS.c.chain_id, AUTH_CHAIN_LINKS.c.sequence)
