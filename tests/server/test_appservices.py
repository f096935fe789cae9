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
