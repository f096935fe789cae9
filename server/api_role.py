"""The process `api`: HTTP for clients, servers and operators."""

from __future__ import annotations

import asyncio
import secrets

import structlog

from annals.api.app import make_app
from annals.api.auth.limits import Limits, Rate
from annals.api.server.own_keys import OwnKeys
from annals.api.services import ApiSettings, Services
from annals.commands.accounts import Accounts
from annals.commands.openid import OpenIdTokens
from annals.commands.passwords import Passwords
from annals.commands.presence import PresenceDesk
from annals.commands.profiles import Profiles
from annals.commands.receipts import Receipts
from annals.commands.rooms.templates import Templates
from annals.commands.rooms.third_party import ThirdPartyInvites
from annals.commands.rooms.third_party_binding import BoundInvites
from annals.commands.subject_keys import SubjectKeys
from annals.commands.typing import TypingNotices
from annals.commands.user_data import UserData
from annals.egress.heard import HeardFrom
from annals.federation.client import Identity
from annals.ingest.inbound.receiver import Receiver
from annals.ingest.key_notary import KeyNotary
from annals.ingest.resident.handshakes import SentHandshakes
from annals.ingest.resident.invites import Invites
from annals.ingest.resident.policy import PolicyChecks
from annals.matrix.room_versions import ROOM_VERSIONS
from annals.projectors.notices import Notice
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
from annals.queries.places import PlaceReader
from annals.queries.presence import PresenceReads
from annals.queries.profiles import ProfileReads
from annals.queries.public_rooms import PublicRooms
from annals.queries.remote import RemoteReads
from annals.queries.remote_rooms import RemoteRooms
from annals.queries.room_state import RoomReads
from annals.queries.space_walk import SpaceWalks
from annals.queries.sync.notifier import Notifier
from annals.queries.sync.service import Sync
from annals.server.appservices import load_appservices
from annals.server.clock import now_ms
from annals.server.config import Config
from annals.server.ephemeral_tail import Ephemerals, EphemeralTail, expire_ephemerals
from annals.server.fetching import room_history, room_moments
from annals.server.handshakes import room_asker
from annals.server.house import House, open_house
from annals.server.http import serve
from annals.server.keys import load_master_key
from annals.server.operational import operational_routes
from annals.server.remote_invites import exchanger
from annals.server.version import VERSION

_SERVERS = "servers"
_KEYS_SETTLE_S = 5.0

log = structlog.get_logger(__name__)


async def run(config: Config) -> None:
    """Serve until SIGTERM."""
    house = await open_house(config, "api")
    services, ephemerals = make_services(config, house)
    tail = EphemeralTail(house.log, ephemerals, house.database)
    expiry = asyncio.create_task(expire_ephemerals(ephemerals))
    desk = asyncio.create_task(services.presence.run())
    heard = HeardFrom(house.database, house.listener, now_ms)
    await heard.start()
    house.peers.requests.tell(heard)
    try:
        app = make_app(services, operational=operational_routes(config, house.readiness))
        await serve(app, config, services.stopping.set)
    finally:
        expiry.cancel()
        desk.cancel()
        await services.receiver.close()
        await heard.close()
        await asyncio.to_thread(tail.close)
        await house.close()


def make_services(config: Config, house: House) -> tuple[Services, Ephemerals]:
    """The services of the endpoints, and what has to hear of topic `ephemeral`."""
    database, appender = house.database, house.appender
    keys = SubjectKeys(appender, database, load_master_key(config.master_key_path))
    tokens = Tokens(database)
    notifier = Notifier()
    ephemerals = Ephemerals(now_ms, notifier, config.presence.enabled)
    presences = ephemerals.presences
    desk = PresenceDesk(appender, ephemerals if presences else None, f"api-{secrets.token_hex(6)}")
    ephemerals.reconsider = desk.stir
    stopping = asyncio.Event()
    places = PlaceReader(house.log.log_id)
    identity, pdus = Identity(house.signer.server_name, house.signer.key), house.peers.pdus
    templates = Templates(house.drafts, database, config.server_name)
    house.reached.subscribe(lambda notice: _tell(tokens, notifier, notice))
    own_keys = OwnKeys(config.server_name, [house.signer.key], now_ms, config.retired_keys())
    spaces, remote_rooms = Spaces(database), RemoteRooms(house.peers.client, config.server_name, now_ms)
    history = room_history(house)
    third_party = ThirdPartyInvites(database, house.builders, house.outgoing, config.server_name)
    services = Services(
        settings=api_settings(config),
        clock=now_ms,
        serving=house.serving,
        server_keys=own_keys,
        tokens=tokens,
        limits=Limits(now_ms, _rates(config)),
        accounts=Accounts(appender, database, keys, Passwords(), config.server_name),
        account_reads=AccountReads(database),
        profiles=Profiles(appender, database),
        profile_reads=ProfileReads(database),
        user_data=UserData(appender, database),
        aliases=house.aliases,
        alias_reads=AliasReads(database, config.server_name),
        sync=Sync(
            *(database, house.log.log_id, notifier, ephemerals.typing, presences, ephemerals.count, now_ms, stopping),
            behind_wait_s=config.tables_wait_s,
        ),
        rooms=house.rooms,
        messages=Messages(database, places, history.fetch),
        moments=Moments(database, room_moments(house, history).near),
        room_reads=RoomReads(database, places),
        remote_reads=RemoteReads(house.peers.client),
        receipts=Receipts(appender, database),
        typing=TypingNotices(appender, database),
        presence=desk,
        presence_reads=PresenceReads(database, presences),
        requests=house.peers.requests,
        templates=templates,
        sent_handshakes=SentHandshakes(
            appender, database, pdus, identity, templates.check_authorised, PolicyChecks(house.peers.policy, database)
        ),
        invites=Invites(appender, database, pdus, identity),
        third_party_invites=third_party,
        bound_invites=BoundInvites(database, third_party, exchanger(house.peers), config.server_name),
        room_answers=RoomAnswers(database, config.server_name),
        notary=_notary(house, own_keys),
        receiver=Receiver(
            appender,
            database,
            pdus,
            house.peers.threads,
            config.server_name,
            now_ms,
            room_asker(house),
            config.presence.enabled,
        ),
        federation_reads=FederationReads(database),
        federation_devices=FederationDevices(database),
        openid=OpenIdTokens(database, now_ms),
        openid_reads=OpenIdReads(database, now_ms),
        public_rooms=PublicRooms(database),
        remote_rooms=remote_rooms,
        spaces=spaces,
        space_walks=SpaceWalks(spaces, remote_rooms),
        appservices=load_appservices(config.appservice_dir, config.server_name),
        stopping=stopping,
    )
    return services, ephemerals


def _notary(house: House, own_keys: OwnKeys) -> KeyNotary:
    async def settled() -> None:
        ends = {(_SERVERS, partition): end for partition, end in enumerate(house.log.ends(_SERVERS))}
        await house.reached.reached(ends, _KEYS_SETTLE_S)

    signer = house.signer
    return KeyNotary(signer.server_name, signer.key, own_keys, house.peers.keyring, house.database, settled, now_ms)


def api_settings(config: Config) -> ApiSettings:
    """What the operator chose, as the endpoints need it."""
    base_url = config.public_baseurl
    return ApiSettings(
        server_name=config.server_name,
        version=VERSION,
        default_room_version=config.default_room_version,
        room_versions=dict.fromkeys(ROOM_VERSIONS, "stable"),
        starting_wait_s=config.starting_wait_s,
        registration_enabled=config.registration.enabled,
        registration_shared_secret=config.registration.secret(),
        well_known_client={"m.homeserver": {"base_url": base_url.rstrip("/")}} if base_url else None,
    )


def _rates(config: Config) -> dict[str, Rate]:
    limits = config.rate_limits
    if not limits.enabled:
        return {}
    kinds = {
        "message": limits.message,
        "login": limits.login,
        "registration": limits.registration,
        "room_creation": limits.room_creation,
    }
    return {kind: Rate(limit.per_second, limit.burst) for kind, limit in kinds.items()}


def _tell(tokens: Tokens, notifier: Notifier, notice: Notice) -> None:
    """Caches first, then those who wait."""
    if notice.everything:
        tokens.cache.clear()
    else:
        tokens.cache.users_moved(notice.users)
    notifier.moved(notice.rooms, notice.users, notice.everything)
