"""Synapse as the peer: one process with its defaults, no rate limits, on a PostgreSQL with its defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from annals.server.embedded_postgres import SUPERUSER, EmbeddedPostgres

_FREE = {"per_second": 1_000_000, "burst_count": 1_000_000}
_LIMITS = (
    *("message", "registration", "admin_redaction", "joins_per_room", "3pid_validation", "delayed_event_mgmt"),
    *("room_creation", "user_directory"),
)


class DefaultPostgres(EmbeddedPostgres):
    """The cluster as initdb makes it; only the way in (a Unix socket) is ours."""

    def _configure(self) -> None:
        made = (self.pgdata / "postgresql.conf").read_text()
        ours = "listen_addresses = ''\nunix_socket_directories = '../socket'\n"
        self._write("postgresql.conf", made if made.endswith(ours) else made + ours)
        self._write("pg_hba.conf", "local all all trust\n")


def configuration(folder: Path, server_name: str, port: int, database_url: str) -> dict[str, Any]:
    """homeserver.yaml: what Synapse cannot do without, open registration, and rate limits that limit nothing."""
    where = urlsplit(database_url)
    database = {
        "dbname": where.path.lstrip("/"),
        "user": SUPERUSER,
        "host": parse_qs(where.query)["host"][0],
        "port": int(parse_qs(where.query)["port"][0]),
        # as its documentation has it
        "cp_min": 5,
        "cp_max": 10,
    }
    listener = {
        "type": "http",
        "port": port,
        "bind_addresses": ["127.0.0.1"],
        "resources": [{"names": ["client"], "compress": False}],
    }
    return {
        "server_name": server_name,
        "public_baseurl": f"http://127.0.0.1:{port}/",
        "pid_file": str(folder / "pid"),
        "report_stats": False,
        "listeners": [listener],
        "database": {"name": "psycopg2", "args": database},
        "signing_key_path": str(folder / "signing.key"),
        "media_store_path": str(folder / "media"),
        "log_config": str(folder / "log.json"),
        "macaroon_secret_key": "only here",
        "form_secret": "only here",
        "enable_registration": True,
        "enable_registration_without_verification": True,
        "trusted_key_servers": [],
        **{f"rc_{name}": _FREE for name in _LIMITS},
        "rc_login": dict.fromkeys(("address", "account", "failed_attempts"), _FREE),
        "rc_joins": dict.fromkeys(("local", "remote"), _FREE),
        "rc_invites": dict.fromkeys(("per_room", "per_user", "per_issuer"), _FREE),
        "rc_presence": {"per_user": _FREE},
    }


def write_configuration(folder: Path, server_name: str, port: int, database_url: str) -> Path:
    """Write homeserver.yaml (JSON is YAML) and its log.json; the path of the first."""
    log = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr"}},
        "root": {"level": "WARNING", "handlers": ["out"]},
    }
    (folder / "log.json").write_text(json.dumps(log))
    path = folder / "homeserver.yaml"
    path.write_text(json.dumps(configuration(folder, server_name, port, database_url), indent=1))
    return path
