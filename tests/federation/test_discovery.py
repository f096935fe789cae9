"""Server discovery, step by step as the specification numbers them."""

from __future__ import annotations

import asyncio

import pytest

from annals.federation.discovery import Discovery, Target, split_server_name
from annals.federation.errors import Unreachable
from annals.federation.names import SrvRecord
from annals.federation.well_known import WellKnown, WellKnownAnswer
from tests.support.scripted_peer import FakeNames

FED, OLD = "_matrix-fed._tcp.", "_matrix._tcp."


def find(name: str, delegated: str | None = None, *, chance: float = 0.5, **names: object) -> list[Target]:
    """The targets of a server whose well-known names `delegated`."""
    looked_up = FakeNames(**names)  # type: ignore[arg-type]

    async def fetch(hostname: str) -> WellKnownAnswer | None:
        assert hostname == name
        return None if delegated is None else WellKnownAnswer(200, {}, b'{"m.server":"%s"}' % delegated.encode())

    well_known = WellKnown(fetch, lambda: 0, lambda: 0.5)
    return asyncio.run(Discovery(looked_up, well_known, lambda: chance).targets(name))


def srv(host: str, port: int = 99, priority: int = 1, weight: int = 0) -> SrvRecord:
    return SrvRecord(priority, weight, port, host)


def test_1_a_literal_address() -> None:
    assert find("1.2.3.4") == [Target("1.2.3.4", 8448, "1.2.3.4", "1.2.3.4")]
    assert find("1.2.3.4:80") == [Target("1.2.3.4", 80, "1.2.3.4", "1.2.3.4:80")]
    assert find("[1::2]") == [Target("1::2", 8448, "1::2", "[1::2]")]
    assert find("[1::2]:80") == [Target("1::2", 80, "1::2", "[1::2]:80")]


def test_2_a_port_in_the_name() -> None:
    assert find("a.example:80") == [Target("a.example", 80, "a.example", "a.example:80")]


def test_3_1_delegated_to_a_literal_address() -> None:
    assert find("a.example", "1.2.3.4") == [Target("1.2.3.4", 8448, "1.2.3.4", "1.2.3.4")]
    assert find("a.example", "[1::2]:80") == [Target("1::2", 80, "1::2", "[1::2]:80")]


def test_3_2_delegated_to_a_name_with_port() -> None:
    assert find("a.example", "b.example:80") == [Target("b.example", 80, "b.example", "b.example:80")]


def test_3_3_delegated_to_a_service() -> None:
    found = find("a.example", "b.example", srv={FED + "b.example": [srv("c.example")], OLD + "b.example": [srv("d")]})
    assert found == [Target("c.example", 99, "b.example", "b.example")]


def test_3_4_delegated_to_a_service_of_the_old_name() -> None:
    found = find("a.example", "b.example", srv={OLD + "b.example": [srv("c.example")], FED + "a.example": [srv("x")]})
    assert found == [Target("c.example", 99, "b.example", "b.example")]


def test_3_5_delegated_to_a_plain_name() -> None:
    found = find("a.example", "b.example", srv={FED + "a.example": [srv("x")]})
    assert found == [Target("b.example", 8448, "b.example", "b.example")]


def test_4_a_service() -> None:
    found = find("a.example", srv={FED + "a.example": [srv("c.example")], OLD + "a.example": [srv("d")]})
    assert found == [Target("c.example", 99, "a.example", "a.example")]


def test_5_a_service_of_the_old_name() -> None:
    assert find("a.example", srv={OLD + "a.example": [srv("d")]}) == [Target("d", 99, "a.example", "a.example")]


def test_6_the_name_itself() -> None:
    assert find("a.example") == [Target("a.example", 8448, "a.example", "a.example")]


def test_a_service_whose_name_servers_are_silent_is_taken_as_absent() -> None:
    assert find("a.example", dead={FED + "a.example", OLD + "a.example"})[0].port == 8448


def test_a_service_that_is_decidedly_not_there() -> None:
    with pytest.raises(Unreachable):
        find("a.example", srv={FED + "a.example": [srv("", 0)]})


@pytest.mark.parametrize(
    "name", ["", "a b", "a:0", "a:65536", "a:99999", "1.2.3.456", "[1::2", "a/b", "a.example:80:90"]
)
def test_what_is_no_server_name_is_asked_for_nowhere(name: str) -> None:
    assert split_server_name(name) is None
    with pytest.raises(Unreachable):
        find(name)


def test_services_come_by_priority_and_then_by_weight_and_chance() -> None:
    records = [srv("z", priority=2), srv("light", weight=1), srv("heavy", weight=9), srv("zero", weight=0)]
    by_chance = {
        chance: [t.host for t in find("a.example", chance=chance, srv={FED + "a.example": records})]
        for chance in (0.0, 0.5, 0.99)
    }
    assert by_chance[0.0][0] == "light"
    assert by_chance[0.5][0] == "heavy"
    assert all(sorted(order) == ["heavy", "light", "z", "zero"] and order[-1] == "z" for order in by_chance.values())
