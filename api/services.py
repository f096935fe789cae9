"""What the endpoints need. The composition root fills it once; endpoints find it at `request.app.state.services`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request

from annals.api.appservices import Appservice
from annals.api.auth.limits import Limits
from annals.api.auth.turns import Turns
from annals.commands.accounts import Accounts
from annals.commands.aliases import Aliases
from annals.commands.openid import OpenIdTokens
from annals.commands.presence import PresenceDesk
from annals.commands.profiles import Profiles
from annals.commands.receipts import Receipts
from annals.commands.rooms.service import Rooms
from annals.commands.rooms.templates import Templates
from annals.commands.rooms.third_party import ThirdPartyInvites
from annals.commands.rooms.third_party_binding import BoundInvites
from annals.commands.typing import TypingNotices
from annals.commands.user_data import UserData
from annals.ingest.inbound.receiver import Receiver
from annals.ingest.key_notary import KeyNotary
from annals.ingest.requests import RequestVerifier
from annals.ingest.resident.handshakes import SentHandshakes
from annals.ingest.resident.invites import Invites
from annals.queries.accounts import AccountReads
from annals.queries.accounts_tokens import Tokens
from annals.queries.aliases import AliasReads
from annals.queries.federation.devices import FederationDevices
from annals.queries.federation.joining import RoomAnswers
from annals.queries.federation.reads import FederationReads
from annals.queries.hierarchy import Spaces
from annals.queries.messages import Messages
from annals.queries.moments import Moments
from annals.queries.openid import OpenIdReads
from annals.queries.presence import PresenceReads
from annals.queries.profiles import ProfileReads
from annals.queries.public_rooms import PublicRooms
from annals.queries.remote import RemoteReads
from annals.queries.remote_rooms import RemoteRooms
from annals.queries.room_state import RoomReads
from annals.queries.space_walk import SpaceWalks
from annals.queries.sync.service import Sync


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """What the operator chose. `well_known_client` and so on are whole documents, or None for a 404.

    `starting_wait_s`: how long a request waits for tables that have not caught up yet, before it is answered 503.
    """

    server_name: str
    version: str
    default_room_version: str = "12"
    room_versions: Mapping[str, str] = field(default_factory=lambda: {"10": "stable", "11": "stable", "12": "stable"})
    starting_wait_s: float = 0.0
    registration_enabled: bool = False
    registration_shared_secret: str | None = None
    well_known_client: Mapping[str, Any] | None = None
    well_known_server: Mapping[str, Any] | None = None
    well_known_support: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that an endpoint calls. Each field is a command or query object, or a plain function.

    `serving` gates all APIs but the open ones: False until the tables have reached the log's ends as read at the
    process's start. `stopping` is set when the process ends: whoever waits long, as /sync does, must wait for it too.
    `server_keys` gives the signed answer to GET /_matrix/key/v2/server as JSON text.
    """

    settings: ApiSettings
    clock: Callable[[], int]
    serving: Callable[[], bool]
    server_keys: Callable[[], bytes]
    tokens: Tokens
    limits: Limits
    accounts: Accounts
    account_reads: AccountReads
    profiles: Profiles
    profile_reads: ProfileReads
    user_data: UserData
    aliases: Aliases
    alias_reads: AliasReads
    rooms: Rooms
    sync: Sync
    messages: Messages
    moments: Moments
    room_reads: RoomReads
    remote_reads: RemoteReads
    receipts: Receipts
    typing: TypingNotices
    presence: PresenceDesk
    presence_reads: PresenceReads
    requests: RequestVerifier
    templates: Templates
    sent_handshakes: SentHandshakes
    invites: Invites
    third_party_invites: ThirdPartyInvites
    bound_invites: BoundInvites
    room_answers: RoomAnswers
    receiver: Receiver
    federation_reads: FederationReads
    federation_devices: FederationDevices
    openid: OpenIdTokens
    openid_reads: OpenIdReads
    public_rooms: PublicRooms
    remote_rooms: RemoteRooms
    spaces: Spaces
    space_walks: SpaceWalks
    notary: KeyNotary
    turns: Turns = field(default_factory=Turns)
    appservices: Mapping[str, Appservice] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


def services_of(request: Request) -> Services:
    """The services of the app that a request came to."""
    services: Services = request.app.state.services
    return services


WithServices = Annotated[Services, Depends(services_of)]


def request_id_of(request: Request) -> str:
    """The request's id: the cause of the facts that it makes, and in our logs."""
    found: str = request.scope["annals.request_id"]
    return found
