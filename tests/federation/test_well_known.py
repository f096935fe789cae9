"""Well-known: what an answer means, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from annals.federation.well_known import WellKnown, WellKnownAnswer, cache_time_ms, delegated_name

MINUTE, HOUR = 60_000, 3_600_000


@pytest.mark.parametrize(
    ("status", "body", "name"),
    [
        (200, b'{"m.server": "b.example:80"}', "b.example:80"),
        (200, b'{"m.server": "b.example", "other": 1}', "b.example"),
        (404, b'{"m.server": "b.example"}', None),
        (200, b"", None),
        (200, b"[1]", None),
        (200, b'{"m.server": 1}', None),
        (200, b'{"m.server": "b example"}', None),
        (200, b'{"m.server": "https://b.example"}', None),
        (200, b"[" * 5000, None),
    ],
)
def test_what_is_invalid_delegates_nowhere(status: int, body: bytes, name: str | None) -> None:
    assert delegated_name(WellKnownAnswer(status, {}, body)) == name


@pytest.mark.parametrize(
    ("control", "time_ms"),
    [
        (None, 24 * HOUR),
        ("public", 24 * HOUR),
        ("max-age=7200", 2 * HOUR),
        ('public, Max-Age="7200"', 2 * HOUR),
        ("max-age=99999999999", 48 * HOUR),
        ("max-age=0", 5 * MINUTE),
        ("no-store", 5 * MINUTE),
        ("max-age=7200, no-cache", 5 * MINUTE),
        ("max-age=-1", 24 * HOUR),
        ("max-age=１", 24 * HOUR),
    ],
)
def test_cache_control_is_honoured_within_bounds(control: str | None, time_ms: int) -> None:
    assert cache_time_ms({} if control is None else {"cache-control": control}) == time_ms


class Script:
    """A clock, and answers in turn."""

    def __init__(self, *answers: WellKnownAnswer | None) -> None:
        self.now_ms, self.answers, self.fetches = 0, list(answers), 0
        self.gate, self.asked = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.well_known = WellKnown(self.fetch, lambda: self.now_ms, lambda: 0.5)

    async def fetch(self, hostname: str) -> WellKnownAnswer | None:
        self.fetches += 1
        self.asked.set()
        await self.gate.wait()
        return self.answers.pop(0)


def ok(name: str, control: str = "max-age=7200") -> WellKnownAnswer:
    return WellKnownAnswer(200, {"cache-control": control}, b'{"m.server":"%s"}' % name.encode())


def test_an_answer_is_asked_for_again_when_its_time_is_over() -> None:
    async def scenario() -> None:
        script = Script(ok("b.example"), ok("c.example"))
        assert await script.well_known.delegation("A.example") == "b.example"
        script.now_ms = 2 * HOUR - 1
        assert await script.well_known.delegation("a.example") == "b.example"
        script.now_ms = 2 * HOUR
        assert await script.well_known.delegation("a.example") == "c.example"
        assert script.fetches == 2

    asyncio.run(scenario())


def test_failures_are_remembered_ever_longer_up_to_an_hour() -> None:
    async def scenario() -> None:
        script = Script(*[None] * 7)
        asked_at = []
        for minute in range(300):
            script.now_ms, before = minute * MINUTE, script.fetches
            if script.answers or minute < 240:
                assert await script.well_known.delegation("a.example") is None
            if script.fetches > before:
                asked_at.append(minute)
            if not script.answers:
                break
        assert asked_at == [0, 5, 15, 35, 75, 135, 195]

    asyncio.run(scenario())


def test_many_askers_make_one_request_and_one_that_goes_away_takes_nobody_along() -> None:
    async def scenario() -> None:
        script = Script(ok("b.example"))
        script.gate.clear()
        asking = [asyncio.create_task(script.well_known.delegation("a.example")) for _ in range(5)]
        await script.asked.wait()
        asking[0].cancel()
        script.gate.set()
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert found[1:] == ["b.example"] * 4
        assert script.fetches == 1

    asyncio.run(scenario())
