"""Registrations of application services."""

from __future__ import annotations

from pathlib import Path

import pytest

from annals.server.appservices import load_appservices
from annals.server.config import ConfigError

REGISTRATION = "id: bridge\nhs_token: h\nas_token: a\nurl: 'http://localhost:9000'\nsender_localpart: the-bridge\n"


def test_a_service_acts_as_its_sender(tmp_path: Path) -> None:
    (tmp_path / "bridge.yaml").write_text(REGISTRATION)
    (tmp_path / "notes.txt").write_text("not a registration")
    found = load_appservices(tmp_path, "hs1:8448")
    assert {token: (s.appservice_id, s.sender) for token, s in found.items()} == {
        "a": ("bridge", "@the-bridge:hs1:8448")
    }


NAMESPACES = """\
namespaces:
  users:
    - {exclusive: true, regex: "@_irc_.*"}
    - {exclusive: false, regex: "@guest"}
  aliases:
    - {exclusive: true, regex: "#_irc_.*"}
  rooms: []
"""


def test_namespaces_are_read(tmp_path: Path) -> None:
    (tmp_path / "bridge.yaml").write_text(REGISTRATION + NAMESPACES)
    service = load_appservices(tmp_path, "hs1")["a"]
    assert [(one.pattern.pattern, one.exclusive) for one in service.users] == [("@_irc_.*", True), ("@guest", False)]
    assert [(one.pattern.pattern, one.exclusive) for one in service.aliases] == [("#_irc_.*", True)]
    assert service.has_user("@_irc_annie:hs1")
    assert service.has_user("@guest7:hs1")
    assert not service.has_user("@not_irc_annie:hs1"), "a pattern holds from the beginning"
    assert service.keeps_user("@_irc_annie:hs1")
    assert not service.keeps_user("@guest7:hs1")
    assert service.keeps_user("@the-bridge:hs1")


def test_no_folder_no_services() -> None:
    assert load_appservices(None, "hs1") == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "id: x\n",
        REGISTRATION.replace("as_token: a\n", ""),
        "a: b: c",
        REGISTRATION.replace("the-bridge", "x" * 300),
        REGISTRATION + NAMESPACES.replace("@guest", "@(guest"),
        REGISTRATION + NAMESPACES.replace("exclusive: false, ", ""),
        REGISTRATION + NAMESPACES.replace("true", "'yes'"),
        REGISTRATION + "namespaces: everything\n",
        REGISTRATION + "namespaces: {users: {regex: '@a', exclusive: true}}\n",
        REGISTRATION + "namespaces: {users: ['@a']}\n",
    ],
)
def test_a_file_that_is_no_registration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load_appservices(tmp_path, "hs1")


def test_two_services_cannot_share_a_token(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(REGISTRATION)
    (tmp_path / "two.yaml").write_text(REGISTRATION.replace("bridge", "other"))
    with pytest.raises(ConfigError, match=r"two\.yaml"):
        load_appservices(tmp_path, "hs1")


def test_two_services_cannot_share_an_id(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(REGISTRATION)
    (tmp_path / "two.yaml").write_text(REGISTRATION.replace("as_token: a", "as_token: b"))
    with pytest.raises(ConfigError, match=r"two\.yaml"):
        load_appservices(tmp_path, "hs1")
