"""The HTTP application: every API, for every listener."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from annals.api import routes
from annals.api.answers import error_answer
from annals.api.errors import ApiError, as_api_error
from annals.api.front import Front
from annals.api.hot import HotRoute, HotRoutes
from annals.api.services import Services


def make_app(
    services: Services,
    routers: Sequence[APIRouter] = routes.ROUTERS,
    hot_routes: Sequence[HotRoute] = routes.HOT_ROUTES,
    operational: Sequence[BaseRoute] = (),
) -> FastAPI:
    """The app over these services. Hot routes are matched first, by the front (api/front.py).

    `operational` are the routes of the process itself (/health, /ready, /metrics), which the composition root has.
    """
    app = FastAPI(
        title="Annals",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(Front, services=services, hot=HotRoutes(hot_routes))],
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    app.state.services = services
    # The framework would answer these by itself, in a shape of its own; all others reach the front.
    app.add_exception_handler(HTTPException, _error)
    app.add_exception_handler(RequestValidationError, _error)
    app.router.routes.extend(operational)
    for router in routers:
        app.include_router(router)
    return app


async def _error(_: Request, error: Exception) -> Response:
    return error_answer(as_api_error(error) or ApiError(500, "M_UNKNOWN", "Internal error"))
