"""Log lines (structlog) and numbers (Prometheus).

A log line is an event's name and fields: `log.info("room halted", room_id=…)`; JSON, or readable on a terminal. The
standard library's loggers (uvicorn, alembic) come out in the same form.

Numbers are ordinary prometheus_client objects, made at import where they are counted, named `annals_…`. Under
`annals serve` all processes write theirs below PROMETHEUS_MULTIPROC_DIR, and /metrics of any `api` process shows the
sum; a Gauge therefore says how to join (`multiprocess_mode="livemostrecent"`, `"livesum"`…).
"""

from __future__ import annotations

import logging
import os
import sys

import orjson
import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    generate_latest,
    multiprocess,
    start_http_server,
)

from annals.server.config import ConfigError, Logging, Metrics

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def configure_logging(settings: Logging, role: str) -> None:
    """Send every logger of this process to stderr, each line marked with the role."""

    def add_role(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["role"] = role
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        add_role,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _without_colours],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(settings)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())


def _without_colours(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.pop("color_message", None)  # uvicorn says all twice
    return event


def _rendering(settings: Logging) -> list[structlog.typing.Processor]:
    if settings.format == "json":
        return [
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(serializer=lambda value, **_: orjson.dumps(value, default=str).decode()),
        ]
    # Not the rich one: it would print local variables, and what people have said is among them.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


def metrics_text() -> tuple[bytes, str]:
    """What /metrics answers: body and content type."""
    registry: CollectorRegistry = REGISTRY
    if os.environ.get(MULTIPROCESS_VARIABLE):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


def serve_metrics(settings: Metrics) -> None:
    """Answer /metrics at an address of its own, where one is configured. Raises ConfigError where it is taken."""
    if not settings.enabled or settings.port is None:
        return
    try:
        start_http_server(settings.port, settings.address)
    except OSError as error:
        raise ConfigError(f"metrics: {settings.address} port {settings.port}: {error.strerror}") from error
