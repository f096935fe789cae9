"""Making a room: a command over several keys (the room, its alias, the directory).

Its start is on the log with all ids chosen beforehand, the create event included; every step is idempotent, so that any
process can take it up where another one died (worker.py):

    CommandStarted ─▶ alias claimed ─▶ events of the room ─▶ published ─▶ CommandFinished
                           └── taken ─────────────────────────────────▶ CommandFinished(failed)
"""

from __future__ import annotations

import asyncio
import secrets
import string
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from annals.commands.aliases import Aliases
from annals.commands.errors import Refused
from annals.commands.rooms.builder import Builders, refusal_of
from annals.commands.rooms.creation import (
    RoomRequest,
    check_request,
    create_content,
    later_state,
    power_levels_content,
)
from annals.commands.rooms.inviting import OutgoingInvites
from annals.commands.rooms.membership import Change
from annals.commands.rooms.plans import ReadyMade, Send
from annals.commands.rooms.showing import Showing
from annals.commands.worker import Started, Step
from annals.matrix.canonical_json import strict_bytes
from annals.matrix.errors import InvalidEvent, NotCanonical
from annals.matrix.events import Event, event_of
from annals.matrix.identifiers import domain_of
from annals.matrix.room_versions import ROOM_VERSIONS, RoomRules
from annals.projectors.positions.appending import Appender
from annals.rooms.heads import Intent, Signer, build_on
from annals.rooms.view import Header, RoomView
from annals.schemas.facts.users import CommandFinished, CommandStarted

CREATE_ROOM = "create_room"
_MEMBER = "m.room.member"
_log = structlog.get_logger(__name__)
#: A record of the log holds 128 KiB.
PLAN_BYTES_MAX = 120 * 1024

CarryOut = Callable[[str, str, Mapping[str, Any]], Awaitable[None]]
"""Does the steps of a command: (user id, command id, plan)."""


class RoomCreation:
    """Starts and carries out commands of kind `create_room`."""

    def __init__(
        self,
        appender: Appender,
        builders: Builders,
        aliases: Aliases,
        signer: Signer,
        outgoing: OutgoingInvites,
        showing: Showing,
    ) -> None:
        self._appender = appender
        self._builders = builders
        self._aliases = aliases
        self._signer = signer
        self._outgoing = outgoing
        self._showing = showing
        self._last_ms = 0

    async def create(
        self, request: RoomRequest, rules: RoomRules, profiles: Mapping[str, Mapping[str, Any]], cause: str
    ) -> str:
        """Make the room; its id. `profiles`: what member events show of the creator and of who is invited."""
        check_request(request)
        plan = self._plan(request, rules, profiles)
        await self.run(request.creator, CREATE_ROOM, plan, cause, self.carry_out)
        room_id: str = plan["room_id"]
        return room_id

    async def run(self, user_id: str, kind: str, plan: Mapping[str, Any], cause: str, carry_out: CarryOut) -> None:
        """Log that a command begins, carry it out, log its end. Raises what `carry_out` does."""
        command_id, text = secrets.token_hex(8), _text_of(plan)
        started = CommandStarted(self._appender.envelope(cause), user_id, command_id, kind, text)
        await self._appender.submit([started])
        try:
            await carry_out(user_id, command_id, plan)
        except Refused as refused:
            await self._finish(user_id, command_id, "failed", refused.reason)
            raise
        await self._finish(user_id, command_id, "done", None)

    def _plan(
        self, request: RoomRequest, rules: RoomRules, profiles: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """All that the steps need, as JSON; raises Refused where the create event cannot be."""
        event = self.create_event(request.creator, create_content(request, rules), rules)
        return {
            "room_id": event.room_id,
            "room_version": rules.version,
            "create": {"event_id": event.event_id, "pdu": event.pdu},
            "state": _state(request, rules, profiles, self._signer.server_name),
            "invited_elsewhere": _invited_elsewhere(request, profiles, self._signer.server_name),
            "alias": request.alias,
            "published": request.visibility == "public",
        }

    def create_event(self, creator: str, content: dict[str, Any], rules: RoomRules) -> Event:
        """The first event of a new room, whose id it has; raises Refused where it cannot be."""
        room_id = "" if rules.room_id_is_create_hash else _random_room_id(self._signer.server_name)
        create = Intent(creator, "m.room.create", content, "")
        try:
            return build_on(RoomView(room_id, header=Header()), create, rules, self._signer, self._own_ms())
        except InvalidEvent as error:
            raise refusal_of(error) from None

    def _own_ms(self) -> int:
        """A time that no other room of ours was made at: where the room's id is the hash of its create event, two that
        somebody makes within a millisecond would be one."""
        self._last_ms = max(self._appender.clock(), self._last_ms + 1)
        return self._last_ms

    async def carry_out(self, user_id: str, command_id: str, plan: Mapping[str, Any]) -> None:
        """Do every step that is not done yet; raises Refused where the room cannot be made."""
        room_id = plan["room_id"]
        try:
            if plan["alias"]:
                await self._claim(plan["alias"], room_id, user_id, command_id)
            await self._build(user_id, command_id, plan)
            await self._showing.look_after(room_id, user_id, _shown_of(user_id, plan), command_id)
            if plan["published"]:
                await self._aliases.publish(room_id, "public", user_id, is_admin=True, cause=command_id)
            await self._invite_elsewhere(user_id, command_id, plan)
        except Refused as refused:
            if plan["alias"]:
                await self._aliases.lapse(plan["alias"], room_id, refused.reason)
            raise

    async def _build(self, user_id: str, command_id: str, plan: Mapping[str, Any]) -> None:
        try:
            await self._builders.carry_out(plan["room_id"], lambda _view: _events(user_id, command_id, plan))
        except Refused as refused:
            if refused.status != 403:
                raise
            # "The initial state implied by the parameters to the request is invalid."
            raise Refused(400, "M_INVALID_ROOM_STATE", refused.reason) from None

    async def _invite_elsewhere(self, user_id: str, command_id: str, plan: Mapping[str, Any]) -> None:
        """Invite users of other servers, all at once. The room is made: who cannot be invited does not undo it."""

        async def one(target: str, content: Mapping[str, Any]) -> None:
            key = f"{command_id}:invite:{target}"
            try:
                await self._outgoing.invite(
                    plan["room_id"], Change(user_id, target, "invite", content, key, command_id)
                )
            except Refused as refused:
                _log.warning("invite_failed", room=plan["room_id"], user=target, reason=refused.reason)

        await asyncio.gather(*(one(target, content) for target, content in plan.get("invited_elsewhere", ())))

    async def _claim(self, alias: str, room_id: str, user_id: str, command_id: str) -> None:
        try:
            await self._aliases.claim_for_new_room(alias, room_id, user_id, cause=command_id)
        except Refused as refused:
            if refused.status != 409:
                raise
            raise Refused(400, "M_ROOM_IN_USE", refused.reason) from None

    async def _finish(self, user_id: str, command_id: str, outcome: str, reason: str | None) -> None:
        finished = CommandFinished(self._appender.envelope(command_id), user_id, command_id, outcome, reason)
        await self._appender.submit([finished])


class RoomCommandKind:
    """A `worker.Kind`: rooms whose making, or whose replacement, somebody began and did not end."""

    grace_s = 15.0

    def __init__(self, carry_out: CarryOut) -> None:
        self._carry_out = carry_out

    async def steps(self, command: Started) -> Sequence[Step]:
        """One step, which goes on where the last try was."""
        return [lambda: self._carry_out(command.user_id, command.command_id, command.plan)]


def rules_of_version(version: str) -> RoomRules:
    """Refused: M_UNSUPPORTED_ROOM_VERSION."""
    rules = ROOM_VERSIONS.get(version)
    if rules is None:
        raise Refused(400, "M_UNSUPPORTED_ROOM_VERSION", f"Unknown room version {version[:100]}")
    return rules


def _text_of(plan: Mapping[str, Any]) -> bytes:
    # What no event can hold must be found before the command begins.
    try:
        text = strict_bytes(plan)
    except NotCanonical as error:
        raise Refused(400, "M_BAD_JSON", str(error)) from None
    if len(text) > PLAN_BYTES_MAX:
        raise Refused(413, "M_TOO_LARGE", f"The state of a new room has at most {PLAN_BYTES_MAX} bytes")
    return text


def _random_room_id(server_name: str) -> str:
    letters = "".join(secrets.choice(string.ascii_letters) for _ in range(18))
    return f"!{letters}:{server_name}"


def _state(
    request: RoomRequest, rules: RoomRules, profiles: Mapping[str, Mapping[str, Any]], server_name: str
) -> list[list[Any]]:
    """[type, state key, content] of all events behind the create event that we sign alone, in order."""
    creator = {**profiles.get(request.creator, {}), "membership": "join"}
    state: list[list[Any]] = [
        [_MEMBER, request.creator, creator],
        ["m.room.power_levels", "", power_levels_content(request, rules)],
    ]
    state += [[wish.type, wish.state_key, wish.content] for wish in later_state(request)]
    direct = {"is_direct": True} if request.is_direct else {}
    for user_id in dict.fromkeys(request.invite):
        if user_id != request.creator and domain_of(user_id) == server_name:
            state.append([_MEMBER, user_id, {**profiles.get(user_id, {}), **direct, "membership": "invite"}])
    return state


def _invited_elsewhere(
    request: RoomRequest, profiles: Mapping[str, Mapping[str, Any]], server_name: str
) -> list[list[Any]]:
    """[user id, content beside the membership] of invites that other servers sign too."""
    direct = {"is_direct": True} if request.is_direct else {}
    elsewhere = [user_id for user_id in dict.fromkeys(request.invite) if domain_of(user_id) != server_name]
    return [[user_id, {**profiles.get(user_id, {}), **direct}] for user_id in elsewhere]


def _shown_of(user_id: str, plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the creator's member event shows."""
    return next(
        (content for event_type, state_key, content in plan["state"] if (event_type, state_key) == (_MEMBER, user_id)),
        {},
    )


def _events(user_id: str, command_id: str, plan: Mapping[str, Any]) -> Send:
    """The room's events under keys of the command: what an earlier try has logged is not made again."""
    rules = ROOM_VERSIONS[plan["room_version"]]
    create = event_of(plan["create"]["pdu"], rules, plan["create"]["event_id"])
    wishes = [
        Intent(user_id, event_type, content, state_key, None, f"{command_id}/{number}", command_id)
        for number, (event_type, state_key, content) in enumerate(plan["state"], start=1)
    ]
    return Send((ReadyMade(create, f"{command_id}/0"), *wishes))
