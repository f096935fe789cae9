"""All routers and hot routes of the app. A new file of endpoints is added here."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from annals.api.admin import registration as admin_registration
from annals.api.client import (
    account_data,
    aliases,
    devices,
    discovery,
    filters,
    login,
    openid,
    presence,
    profile,
    public_rooms,
    push_rules,
    register,
    room_creation,
    room_membership,
    room_reading,
    room_receipts,
    room_sending,
    sync,
)
from annals.api.hot import HotRoute
from annals.api.server import devices as server_devices
from annals.api.server import directory as server_directory
from annals.api.server import keys, membership, transactions
from annals.api.server import queries as server_queries
from annals.api.server import room_reading as server_room_reading

ROUTERS: Sequence[APIRouter] = (
    discovery.router,
    login.router,
    register.router,
    devices.router,
    profile.router,
    filters.router,
    account_data.router,
    push_rules.router,
    aliases.router,
    room_creation.router,
    room_membership.router,
    room_sending.router,
    room_reading.router,
    room_receipts.router,
    admin_registration.router,
    keys.router,
    membership.router,
    server_room_reading.router,
    server_queries.router,
    server_devices.router,
    server_directory.router,
    public_rooms.router,
    openid.router,
    presence.router,
)

HOT_ROUTES: Sequence[HotRoute] = (
    *room_sending.HOT_ROUTES,
    *sync.HOT_ROUTES,
    *room_reading.HOT_ROUTES,
    *transactions.HOT_ROUTES,
)
