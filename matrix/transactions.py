"""The idempotency key of a client's PUT with a transaction id.

Client-server API, "Transaction identifiers": the scope of a transaction id is the device and the HTTP endpoint. So the
key is user, device, method and full path, transaction id included; and the device that sent an event can be told its
transaction id again.
"""

from __future__ import annotations

import json


def transaction_key(user_id: str, device_id: str, path: str, transaction_id: str) -> str:
    """The key of a PUT to `path` (without the transaction id that ends it)."""
    return json.dumps([user_id, device_id, "PUT", path, transaction_id], ensure_ascii=False, separators=(",", ":"))


def transaction_of(key: str | None, user_id: str, device_id: str | None) -> str | None:
    """The transaction id under which this device of this user sent an event; None where it did not."""
    if key is None or device_id is None or not key.startswith('["@'):
        return None
    sender, device, _, _, transaction_id = json.loads(key)
    return str(transaction_id) if (sender, device) == (user_id, device_id) else None
