"""tests/support/homeserver-up keeps its contract: one program, told by its environment, with TLS for other servers."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import ssl
import subprocess
from pathlib import Path

from tests.support.servers import free_port, until

PROGRAM = Path(__file__).parents[1] / "support" / "homeserver-up"


def authority(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "ca.crt", folder / "ca.key"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=test"]
    subprocess.run(["openssl", "req", *options, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def status_of(connection: http.client.HTTPConnection, path: str) -> int:
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_contract(tmp_path: Path) -> None:
    ca_cert, ca_key = authority(tmp_path)
    client_port, federation_port = free_port(), free_port()
    environment = os.environ | {
        "SERVER_NAME": f"localhost:{federation_port}",
        "BIND_ADDRESS": "127.0.0.1",
        "CLIENT_PORT": str(client_port),
        "FEDERATION_PORT": str(federation_port),
        "CA_CERT": str(ca_cert),
        "CA_KEY": str(ca_key),
        "DATA_DIR": str(tmp_path / "data"),
        "APPSERVICE_DIR": str(tmp_path),
        "REGISTRATION_SHARED_SECRET": "complement",
        "DEFAULT_ROOM_VERSION": "11",
    }
    log = tmp_path / "log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [PROGRAM], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return status_of(http.client.HTTPConnection("127.0.0.1", client_port, timeout=2), "/health") == 200
        except OSError:
            return False

    try:
        until(answers, 60)
        # The certificate names the server, and our authority signed it.
        trusting = ssl.create_default_context(cafile=str(ca_cert))
        tls = http.client.HTTPSConnection("localhost", federation_port, timeout=5, context=trusting)
        assert status_of(tls, "/health") == 200
        process.terminate()
        assert process.wait(20) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
