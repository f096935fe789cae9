"""/health, /ready and /metrics: for operators, beside the Matrix APIs.

/health   200 as long as the process answers
/ready    200 once the tables have reached the log and follow it closely, 503 with the reason until then
/metrics  Prometheus
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from annals.server.config import Config
from annals.server.telemetry import metrics_text

# None when ready, else why not, in words.
Readiness = Callable[[], Awaitable[str | None]]


def operational_routes(config: Config, readiness: Readiness) -> list[Route]:
    """The routes, to be mounted beside the APIs."""

    async def health(_: Request) -> Response:
        return _json(200, {"status": "ok"})

    async def ready(_: Request) -> Response:
        reason = await readiness()
        if reason is not None:
            return _json(503, {"status": "waiting", "reason": reason})
        return _json(200, {"status": "ready"})

    async def metrics(_: Request) -> Response:
        body, content_type = metrics_text()
        return Response(body, headers={"Content-Type": content_type})

    routes = [Route("/health", health), Route("/ready", ready)]
    return [*routes, Route("/metrics", metrics)] if config.metrics.enabled else routes


def _json(status: int, body: dict[str, str]) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
