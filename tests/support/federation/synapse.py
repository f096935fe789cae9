"""Synapse, from PyPI, on SQLite: the peer that the others are measured by.

Its database lies in memory where there is a file system for that: it commits several times an event, each time to the
disk, which took most of the time of a story.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from annals.matrix.signing import encode_base64
from tests.support.certificate import make_certificate
from tests.support.federation.homeserver import Homeserver, inherited
from tests.support.patience import PATIENCE_S
from tests.support.scripted_peer import Authority

_PYTHON = Path(__file__).resolve().parents[3] / ".cache" / "peer-venv" / "bin" / "python"
_FREE = {"per_second": 1_000_000, "burst_count": 1_000_000}
_LIMITS = (
    *("message", "registration", "admin_redaction", "joins_per_room", "3pid_validation", "delayed_event_mgmt"),
    *("room_creation", "user_directory"),
)
_MEMORY, _MEMORY_BYTES_MIN = Path("/dev/shm"), 1 << 30
# Discovery asks DNS for SRV records of names without a port; ours all have one.
_RUN = "import sys; sys.argv[0] = 'synapse'; from synapse.app.homeserver import main; main()"


def _has_room() -> bool:
    """Whether a database may lie in memory: a commit there costs a hundredth. Containers often have 64 MiB only."""
    return os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES_MIN


class SynapseServer(Homeserver):
    """One process, no rate limits, federation with loopback allowed."""

    # Another host than ours has: ACLs of rooms know nothing of ports.
    host = "localhost"

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder, authority)
        self._database = tempfile.TemporaryDirectory(prefix="synapse-", dir=_MEMORY if _has_room() else folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._database.cleanup()

    def command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """See Homeserver."""
        yaml = self.folder / "homeserver.yaml"
        if not yaml.exists():
            certificate = make_certificate(
                self.host, "127.0.0.1", self.authority.cert, self.authority.key, self.folder / "tls"
            )
            # JSON is YAML.
            yaml.write_text(json.dumps(self._configuration(*certificate), indent=1))
            (self.folder / "log.json").write_text(json.dumps(_LOGGING))
            # What `--generate-keys` writes, without a start of Synapse for it.
            (self.folder / "signing.key").write_text(f"ed25519 a_1 {encode_base64(secrets.token_bytes(32))}\n")
        return [str(_PYTHON), "-c", _RUN, "-c", str(yaml)], inherited()

    def _configuration(self, certificate: Path, key: Path) -> dict[str, Any]:
        return {
            "server_name": self.name,
            "public_baseurl": f"http://127.0.0.1:{self.port}/",
            "pid_file": str(self.folder / "pid"),
            "report_stats": False,
            "listeners": [
                _listener(self.port, ["client"], tls=False),
                _listener(self.federation_port, ["federation", "keys"], tls=True),
            ],
            "tls_certificate_path": str(certificate),
            "tls_private_key_path": str(key),
            "database": {"name": "sqlite3", "args": {"database": str(Path(self._database.name) / "homeserver.db")}},
            "signing_key_path": str(self.folder / "signing.key"),
            "media_store_path": str(self.folder / "media"),
            "log_config": str(self.folder / "log.json"),
            "macaroon_secret_key": "only here",
            "form_secret": "only here",
            "bcrypt_rounds": 4,
            "enable_registration": True,
            "enable_registration_without_verification": True,
            "trusted_key_servers": [],
            "federation_custom_ca_list": [str(self.authority.cert)],
            "ip_range_blacklist": [],
            "federation_ip_range_blacklist": [],
            "allow_public_rooms_without_auth": True,
            "allow_public_rooms_over_federation": True,
            "room_list_publication_rules": [{"action": "allow"}],
            "presence": {"enabled": True},
            # An initial sync is answered from what is true now.
            "caches": {"sync_response_cache_duration": 0},
            "federation": _FEDERATION,
            "rc_federation": {
                "window_size": 1000,
                "sleep_limit": 9999,
                "sleep_delay": 1,
                "reject_limit": 99999,
                "concurrent": 3,
            },
            "federation_rr_transactions_per_room_per_second": 9999,
            **{f"rc_{name}": _FREE for name in _LIMITS},
            "rc_login": dict.fromkeys(("address", "account", "failed_attempts"), _FREE),
            "rc_joins": dict.fromkeys(("local", "remote"), _FREE),
            "rc_invites": dict.fromkeys(("per_room", "per_user", "per_issuer"), _FREE),
            "rc_presence": {"per_user": _FREE},
        }


#: A server that failed is asked again soon, as the tests cut and heal wires; one that does not answer may be slow.
_FEDERATION = {
    "destination_min_retry_interval": 500,
    "destination_max_retry_interval": 1000,
    "client_timeout": int(PATIENCE_S * 1000),
    # A transaction is sent again and again: who gives up tells later of the last event alone.
    "max_long_retry_delay": 500,
    "max_long_retries": 1000,
    "max_short_retry_delay": 500,
}
_LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}},
    "root": {"level": "WARNING", "handlers": ["out"]},
}


def _listener(port: int, names: list[str], *, tls: bool) -> dict[str, Any]:
    resources = [{"names": names, "compress": False}]
    return {"type": "http", "port": port, "tls": tls, "bind_addresses": ["127.0.0.1"], "resources": resources}
