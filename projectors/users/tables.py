"""Tables of the users group. Sealed fields are stored as they came (annals.projectors.sealables)."""

from __future__ import annotations

from sqlalchemy import ARRAY, BigInteger, Boolean, Column, Index, LargeBinary, Table, Text

from annals.projectors.columns import provenance
from annals.projectors.metadata import METADATA

_EXACT = {"rebuild": "exact"}

# The first AccountRegistered of a name made the row: `source` is its offset, which tells a caller who won.
ACCOUNTS = Table(
    "accounts",
    METADATA,
    Column("user_id", Text, primary_key=True),
    Column("password_hash", LargeBinary),
    Column("admin", Boolean, nullable=False),
    Column("registered_at_ms", BigInteger, nullable=False),
    Column("deactivated", Boolean, nullable=False),
    Column("idempotency_key", Text),
    *provenance(),
    info=_EXACT,
)

DEVICES = Table(
    "devices",
    METADATA,
    Column("user_id", Text, primary_key=True),
    Column("device_id", Text, primary_key=True),
    Column("token_hash", LargeBinary, nullable=False),
    Column("display_name", LargeBinary),
    Column("logged_in_at_ms", BigInteger, nullable=False),
    *provenance(),
    info=_EXACT,
)

ACCESS_TOKENS = Table(
    "access_tokens",
    METADATA,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("device_id", Text, nullable=False),
    *provenance(),
    info=_EXACT,
)

PROFILES = Table(
    "profiles",
    METADATA,
    Column("user_id", Text, primary_key=True),
    Column("field", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    *provenance(),
    info=_EXACT,
)

FILTERS = Table(
    "filters",
    METADATA,
    Column("user_id", Text, primary_key=True),
    Column("filter_id", Text, primary_key=True),
    Column("definition", Text, nullable=False),
    *provenance(),
    info=_EXACT,
)

# room_id '' for account data of no room.
ACCOUNT_DATA = Table(
    "account_data",
    METADATA,
    Column("user_id", Text, primary_key=True),
    Column("room_id", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    *provenance(),
    Index("account_data_by_position", "user_id", "position"),
    info=_EXACT,
)

# state: started, done or failed.
COMMANDS = Table(
    "commands",
    METADATA,
    Column("user_id", Text, primary_key=True),
    Column("command_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("plan", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("idempotency_key", Text),
    *provenance(),
    info=_EXACT,
)
Index("commands_started", COMMANDS.c.source, postgresql_where=COMMANDS.c.state == "started")
Index(
    "commands_by_key",
    COMMANDS.c.user_id,
    COMMANDS.c.idempotency_key,
    postgresql_where=COMMANDS.c.idempotency_key.is_not(None),
)

# Devices of users of other servers, as these told us. keys: JSON; deleted devices keep their row, and their number.
DEVICE_LISTS = Table(
    "device_lists",
    METADATA,
    Column("user_id", Text, primary_key=True),
    Column("device_id", Text, primary_key=True),
    Column("stream_id", BigInteger, nullable=False),
    Column("prev_ids", ARRAY(BigInteger), nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("display_name", LargeBinary),
    Column("keys", LargeBinary),
    *provenance(),
    Index("device_lists_by_position", "partition", "position"),
    info={"rebuild": "exact"},
)

# By which keys they sign them.
DEVICE_LISTS_SIGNING_KEYS = Table(
    "device_lists_signing_keys",
    METADATA,
    Column("user_id", Text, primary_key=True),
    Column("master_key", LargeBinary),
    Column("self_signing_key", LargeBinary),
    *provenance(),
    info={"rebuild": "exact"},
)
