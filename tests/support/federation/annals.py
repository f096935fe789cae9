"""Our own server, with what the program that outside suites start it with tells it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from annals.server.config import Config
from tests.support import nursery
from tests.support.federation.homeserver import Homeserver, inherited
from tests.support.limits import with_limits
from tests.support.patience import PATIENCE_S, PATIENT
from tests.support.scripted_peer import Authority

_SUPPORT = Path(__file__).resolve().parent.parent
_PROGRAM = _SUPPORT / "homeserver-up"
#: For less than a client waits, so that it hears why.
PEERS_PATIENCE_S = PATIENCE_S * 0.8
#: Whom it could not reach it tries again within half a second: the tests cut wires.
_AGAIN_MS = 500


class AnnalsServer(Homeserver):
    """As `tests/support/homeserver-up` starts it, but forked (tests.support.nursery). `more`: variables for it."""

    def __init__(self, folder: Path, authority: Authority, more: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, authority)
        self._more = dict(more or {})

    @property
    def config(self) -> Config:
        """Its settings, as far as they say where log and tables are."""
        return Config(server_name=self.name, data_dir=self.folder / "data" / "annals")

    def command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """See Homeserver."""
        told = {
            "SERVER_NAME": self.name,
            "BIND_ADDRESS": "127.0.0.1",
            "CLIENT_PORT": str(self.port),
            "FEDERATION_PORT": str(self.federation_port),
            "CA_CERT": str(self.authority.cert),
            "CA_KEY": str(self.authority.key),
            "DATA_DIR": str(self.folder / "data"),
            "REGISTRATION_SHARED_SECRET": "only here",
        }
        return [str(_PROGRAM)], {**inherited(), **PATIENT, **told, **self._more}

    def begin(self, log: IO[bytes]) -> nursery.Command:
        """Run it with the environment that the program makes."""
        words, environment = self.command()
        shown = {**environment, "SHOW_ENVIRONMENT": "yes"}
        told = subprocess.run(
            words, env=shown, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, check=True
        )
        made = dict(line.split("=", 1) for line in os.fsdecode(told.stdout).split("\0") if line)
        made |= with_limits(peers_s=PEERS_PATIENCE_S, again_ms=_AGAIN_MS)
        return nursery.begin("serve", environment=made, output=log, new_session=True)
