"""GET /sync ("Syncing"), a hot route."""

from __future__ import annotations

from starlette.requests import Request

from annals.api.auth.tokens import Requester, authenticate
from annals.api.bodies import as_object, checked, parse_json, query_bool, query_int
from annals.api.client.filter_body import FilterBody
from annals.api.client.room_reading import viewer_of
from annals.api.errors import invalid_param
from annals.api.hot import HotRoute
from annals.api.services import Services, services_of
from annals.matrix.presence import ONLINE, STATES
from annals.queries.sync.filters import BadFilter, SyncFilter, sync_filter
from annals.queries.sync.token import BadToken

#: Longer than clients ask for, shorter than what proxies cut.
TIMEOUT_MS_MAX = 90_000


async def sync(request: Request, _: dict[str, str]) -> bytes:
    """GET /_matrix/client/v3/sync."""
    services = services_of(request)
    requester = await authenticate(request, services)
    presence = request.query_params.get("set_presence", ONLINE)
    if presence not in STATES:
        raise invalid_param("set_presence must be offline, online or unavailable")
    full_state = query_bool(request, "full_state")
    use_state_after = query_bool(request, "use_state_after")
    timeout_ms = min(query_int(request, "timeout", 0), TIMEOUT_MS_MAX)
    wanted = await _filter_of(request, services, requester)
    since = request.query_params.get("since") or None
    viewer = viewer_of(requester, services)
    try:
        with services.presence.polling(requester.user_id, requester.device_id, presence):
            return await services.sync.sync(viewer, since, wanted, timeout_ms, full_state, use_state_after)
    except BadToken:
        raise invalid_param("since is not a token of this server") from None


async def _filter_of(request: Request, services: Services, requester: Requester) -> SyncFilter:
    """The filter, given as JSON or by its id."""
    text = request.query_params.get("filter")
    if not text:
        return SyncFilter()
    inline = text.startswith("{")
    if inline:
        definition = as_object(parse_json(text.encode("utf-8", "surrogatepass")))
        checked(FilterBody, definition)
    else:
        stored = await services.account_reads.filter(requester.user_id, text)
        if stored is None:
            raise invalid_param("No such filter")
        definition = as_object(parse_json(stored))
    try:
        return sync_filter(definition)
    except BadFilter as error:
        raise invalid_param(f"filter: {error}") from None


HOT_ROUTES = (HotRoute("GET", "/_matrix/client/v3/sync", sync),)
