"""A second `annals run api` on the log and tables of a running `annals serve`: another process for the same clients.

with SecondApi(server) as other:
    client = Client(other.port, ann.user_id, ann.token)
    other.kill()
"""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from annals.server.embedded_postgres import EmbeddedPostgres
from tests.support import nursery
from tests.support.matrix_client import Client
from tests.support.ports import free_port
from tests.support.servers import Serve
from tests.support.waiting import until


class SecondApi:
    """The process; it runs from `__enter__` on. `port` is its client listener."""

    def __init__(self, server: Serve) -> None:
        self.port = free_port()
        self._postgres = EmbeddedPostgres(server.directory / "data" / "postgres")
        self._environment = {
            **server.environment,
            "DATABASE_URL": self._postgres.url(),
            "ANNALS_CLIENT_LISTENERS": f'[{{"port": {self.port}}}]',
        }
        self._log: Path = server.directory / "second-api.log"
        self.process: nursery.Command | None = None

    def __enter__(self) -> SecondApi:
        with self._log.open("ab") as log:
            self.process = nursery.begin("run", "api", environment=self._environment, output=log)
        try:
            until(self._answers, f"second api; see {self._log}")
        except BaseException:
            self.kill()
            raise
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self._log.read_text()[-3000:]
        try:
            return Client(self.port).call("GET", "/login")[0] == 200
        except OSError:
            time.sleep(0.05)
            return False

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self._postgres.stop()
