"""X-Matrix: how a request between servers says who sent it (server-server API, "Request Authentication")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from annals.matrix.errors import MatrixError
from annals.matrix.identifiers import is_server_name
from annals.matrix.signing import ALGORITHM, SigningKey, VerifyKey, sign_json, verify_json

SCHEME = "X-Matrix"
HEADER_BYTES_MAX = 4096
"""Two server names, a key id and a signature fit into a quarter of it."""

# RFC 9110, 5.6.2, and beyond it: "the recipient should allow colons to be included in values without requiring the
# value to be enclosed in quotes". Base64's `/` and `=` stand unquoted in what older servers send.
_PARAMETER = re.compile(
    r"""[ \t]*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*
        (?: "(?P<quoted>(?:[^"\\]|\\.)*)" | (?P<token>[!#$%&'*+.^_`|~0-9A-Za-z:/=\[\]-]+) )
        [ \t]*(?:,|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_EMPTY = re.compile(r"[ \t]*,")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class XMatrixInvalid(MatrixError):
    """The header is no X-Matrix authorisation, or not one for us: 401."""


@dataclass(frozen=True, slots=True)
class XMatrix:
    """What an Authorization header claims. Nothing of it is true before `verify` passed."""

    origin: str
    destination: str | None
    """None from servers older than version 1.3 of the specification."""
    key_id: str
    signature: str


def authorization(
    origin: str, destination: str, key: SigningKey, method: str, target: str, content: dict[str, Any] | None = None
) -> str:
    """The value of the Authorization header of a request of ours.

    `target` is the path from /_matrix on with its query, exactly as sent. Server names are those before delegation.
    """
    signed = sign_json(_signed_object(origin, destination, method, target, content), origin, key)
    signature = signed["signatures"][origin][key.key_id]
    # "only include one space after `X-Matrix`, only use lower-case names, avoid using backslashes in parameter values,
    # and avoid including whitespace around the commas"
    return f'{SCHEME} origin="{origin}",destination="{destination}",key="{key.key_id}",sig="{signature}"'


def parse_authorization(header: str) -> XMatrix:
    """What the header claims; raises `XMatrixInvalid`."""
    scheme, _, rest = header.partition(" ")
    if len(header) > HEADER_BYTES_MAX or scheme.lower() != SCHEME.lower():
        raise XMatrixInvalid("no X-Matrix authorisation")
    found = _parameters(rest)
    origin, destination = found.get("origin", ""), found.get("destination")
    # The list of parameters calls it `signature`, the examples and every implementation `sig`.
    key_id, signature = found.get("key", ""), found.get("sig", found.get("signature", ""))
    if not is_server_name(origin):
        raise XMatrixInvalid("origin is missing or no server name")
    if not key_id.startswith(ALGORITHM + ":") or not signature:
        raise XMatrixInvalid(f"key is missing or not of {ALGORITHM}, or sig is missing")
    return XMatrix(origin, destination, key_id, signature)


def check_destination(claimed: XMatrix, server_name: str) -> None:
    """Raise `XMatrixInvalid` where the request was meant for another server.

    "If this property is included, but the value does not match the receiving server's name, the receiving server must
    deny the request with an HTTP status code 401 Unauthorized."
    """
    if claimed.destination is not None and claimed.destination != server_name:
        raise XMatrixInvalid("the request is for another server")


def verify(
    claimed: XMatrix,
    server_name: str,
    verify_key: VerifyKey,
    method: str,
    target: str,
    content: dict[str, Any] | None = None,
) -> None:
    """Raise `XMatrixInvalid` or `SignatureInvalid` unless the key signed this very request to us.

    `content` is the body, read as JSON; None where the request had none.
    """
    check_destination(claimed, server_name)
    if verify_key.key_id != claimed.key_id:
        raise XMatrixInvalid("another key than the one that is claimed")
    value = _signed_object(claimed.origin, claimed.destination, method, target, content)
    value["signatures"] = {claimed.origin: {claimed.key_id: claimed.signature}}
    verify_json(value, claimed.origin, verify_key)


def _signed_object(
    origin: str, destination: str | None, method: str, target: str, content: dict[str, Any] | None
) -> dict[str, Any]:
    value: dict[str, Any] = {"method": method, "uri": target, "origin": origin}
    if destination is not None:
        value["destination"] = destination
    if content is not None:
        value["content"] = content
    return value


def _parameters(text: str) -> dict[str, str]:
    """The parameters by lower-case name. "The names are case insensitive and order does not matter." """
    found: dict[str, str] = {}
    at, text = 0, text.strip(" \t")
    while at < len(text):
        # RFC 9110, 5.6.1.2: "a recipient MUST parse and ignore a reasonable number of empty list elements"
        if (empty := _EMPTY.match(text, at)) is not None:
            at = empty.end()
            continue
        parameter = _PARAMETER.match(text, at)
        if parameter is None:
            raise XMatrixInvalid("the parameters of the header cannot be read")
        name = parameter["name"].lower()
        # Two values for one name could mean one server to us and another to a proxy in front of us.
        if name in found:
            raise XMatrixInvalid(f"{name[:100]} is given twice")
        quoted = parameter["quoted"]
        # "a backslash-character pair is replaced by the character that follows the backslash"
        found[name] = parameter["token"] if quoted is None else _ESCAPED.sub(r"\1", quoted)
        at = parameter.end()
    return found
