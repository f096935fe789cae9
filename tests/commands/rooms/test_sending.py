"""What is asked of single types of events before they are built."""

from __future__ import annotations

from typing import Any

import pytest

from annals.commands.errors import Refused
from annals.commands.rooms.sending import KEY_BYTES_MAX, annotation_of, check_key, intent_of


def test_what_a_redaction_redacts_leaves_the_content() -> None:
    content = {"redacts": "$x", "reason": "r"}
    intent = intent_of("@a:b", "m.room.redaction", content, None, "key", "cause")
    assert (intent.redacts, intent.content, intent.idempotency_key) == ("$x", {"reason": "r"}, "key")
    assert content == {"redacts": "$x", "reason": "r"}
    assert intent_of("@a:b", "m.room.message", content, None, None, "cause").redacts is None


@pytest.mark.parametrize("redacts", [1, "", "x", "$", "$a\0", "$" + "x" * 300, [], {}])
def test_what_cannot_be_redacted(redacts: Any) -> None:
    with pytest.raises(Refused) as refused:
        intent_of("@a:b", "m.room.redaction", {"redacts": redacts}, None, None, "cause")
    assert refused.value.errcode == "M_BAD_JSON"


def test_keys_fit_an_index() -> None:
    check_key(None)
    check_key("x" * KEY_BYTES_MAX)
    with pytest.raises(Refused):
        check_key("é" * (KEY_BYTES_MAX // 2 + 1))


@pytest.mark.parametrize(
    ("relation", "expected"),
    [
        ({"rel_type": "m.annotation", "event_id": "$x", "key": "k"}, ("$x", "k")),
        ({"rel_type": "m.annotation", "event_id": "$x"}, None),
        ({"rel_type": "m.annotation", "event_id": 1, "key": "k"}, None),
        ({"rel_type": "m.thread", "event_id": "$x", "key": "k"}, None),
        ([], None),
        (None, None),
    ],
)
def test_annotations(relation: Any, expected: tuple[str, str] | None) -> None:
    assert annotation_of({"m.relates_to": relation}) == expected
