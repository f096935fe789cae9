"""Registrations of application services: one YAML file each (application-service API, "Registration").

What is read today is who may call us, and as whom: a service's token, the user that it is, and its namespaces of users
and aliases. Sending it events comes with a later release.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from annals.api.appservices import Appservice, Namespace
from annals.matrix.identifiers import is_user_id
from annals.server.config import ConfigError


def load_appservices(directory: Path | None, server_name: str) -> dict[str, Appservice]:
    """The services registered in a folder, by token; raises ConfigError for a file that is no registration."""
    if directory is None:
        return {}
    found: dict[str, Appservice] = {}
    for path in sorted(directory.glob("*.yaml")):
        service = _read(path, server_name)
        if service.token in found:
            raise ConfigError(f"{path}: its as_token is that of another service")
        if any(other.appservice_id == service.appservice_id for other in found.values()):
            raise ConfigError(f"{path}: its id is that of another service")
        found[service.token] = service
    return found


def _read(path: Path, server_name: str) -> Appservice:
    try:
        registration = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    sender = f"@{_text(path, registration, 'sender_localpart')}:{server_name}"
    if not is_user_id(sender):
        raise ConfigError(f"{path}: sender_localpart: {sender} is not a user id")
    return Appservice(
        _text(path, registration, "id"),
        _text(path, registration, "as_token"),
        sender,
        users=_namespaces(path, registration, "users"),
        aliases=_namespaces(path, registration, "aliases"),
    )


def _text(path: Path, registration: Any, name: str) -> str:
    value = registration.get(name) if isinstance(registration, dict) else None
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{path}: {name} is missing")
    return value


def _namespaces(path: Path, registration: Any, kind: str) -> tuple[Namespace, ...]:
    every = registration.get("namespaces")
    claimed = (every.get(kind) if isinstance(every, dict) else every) or []
    if not isinstance(claimed, list):
        raise ConfigError(f"{path}: namespaces.{kind} is no list")
    return tuple(_namespace(f"{path}: namespaces.{kind}", one) for one in claimed)


def _namespace(where: str, claimed: Any) -> Namespace:
    regex, exclusive = (claimed.get("regex"), claimed.get("exclusive")) if isinstance(claimed, dict) else (None, None)
    if not isinstance(regex, str) or not isinstance(exclusive, bool):
        raise ConfigError(f"{where}: each has a regex, and exclusive: true or false")
    try:
        return Namespace(re.compile(regex), exclusive)
    except re.error as error:
        raise ConfigError(f"{where}: {regex}: {error}") from error
