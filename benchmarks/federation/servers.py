"""The two servers with a federation port, which trust the authority of the run and may talk to loopback."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.peers import PEER_PYTHON, Annals, Synapse, environment
from benchmarks.synapse import configuration, write_configuration
from tests.support.certificate import make_certificate
from tests.support.ports import free_port
from tests.support.scripted_peer import Authority


class FederatedAnnals(Annals):
    """This checkout. Its server name is an address with the port."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder)
        self.authority, self.federation_port = authority, free_port()

    def start(self) -> None:
        authority = {"CA_CERT": str(self.authority.cert), "CA_KEY": str(self.authority.key)}
        self.serve(f"127.0.0.1:{self.federation_port}", self.federation_port, authority)


class FederatedSynapse(Synapse):
    """Synapse with its defaults on PostgreSQL with its defaults, but for limits on how often it may be asked."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder)
        self.authority, self.federation_port = authority, free_port()

    def start(self) -> None:
        url = self.postgres.start()
        name = f"127.0.0.1:{self.federation_port}"
        path = write_configuration(self.folder, name, self.port, url)
        cert, key = make_certificate(
            "127.0.0.1", "127.0.0.1", self.authority.cert, self.authority.key, self.folder / "tls"
        )
        listener = {
            "type": "http",
            "port": self.federation_port,
            "tls": True,
            "bind_addresses": ["127.0.0.1"],
            "resources": [{"names": ["federation", "keys"], "compress": False}],
        }
        made = configuration(self.folder, name, self.port, url)
        made |= {
            "listeners": [*made["listeners"], listener],
            "tls_certificate_path": str(cert),
            "tls_private_key_path": str(key),
            "federation_custom_ca_list": [str(self.authority.cert)],
            "ip_range_blacklist": [],
            "federation_ip_range_blacklist": [],
            "rc_federation": {
                "window_size": 1000,
                "sleep_limit": 1_000_000,
                "sleep_delay": 1,
                "reject_limit": 1_000_000,
                "concurrent": 3,
            },
        }
        path.write_text(json.dumps(made, indent=1))
        program: list[str | Path] = [PEER_PYTHON, "-m", "synapse.app.homeserver", "-c", path]
        subprocess.run([*program, "--generate-keys"], check=True, cwd=self.folder, capture_output=True)
        self._launch(program, environment())


SERVERS: dict[str, type[FederatedAnnals] | type[FederatedSynapse]] = {
    "annals": FederatedAnnals,
    "synapse": FederatedSynapse,
}
