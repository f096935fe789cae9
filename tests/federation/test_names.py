"""Names: SRV records from a name server of the test, addresses from the operating system."""

from __future__ import annotations

import asyncio
import socket

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from annals.federation.names import AiohttpNames, NameLookupFailed, SrvRecord, SystemNames
from tests.support.scripted_peer import LOOPBACK, FakeNames

RECORDS = {
    "_matrix-fed._tcp.a.example.": ["10 5 8448 m.a.example.", "20 0 443 n.a.example."],
    "_matrix-fed._tcp.none.example.": ["0 0 0 ."],
    "_matrix-fed._tcp.many.example.": [f"{n} 0 1 h{n}.example." for n in range(40)],
}


class NameServer(asyncio.DatagramProtocol):
    """Answers for `RECORDS`; says SERVFAIL for names with `broken` in them, nothing of the kind for the rest."""

    def __init__(self) -> None:
        self.questions: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        question = dns.message.from_wire(data)
        name = question.question[0].name.to_text()
        self.questions.append(name)
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        if "broken" in name:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif name in RECORDS:
            answer.answer.append(dns.rrset.from_text_list(name, 300, "IN", "SRV", RECORDS[name]))
        elif "empty" not in name:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(max_size=4096), addr)  # type: ignore[attr-defined]


async def _ask(*names: str) -> tuple[list[object], list[str]]:
    """What SystemNames gives for each name (errors as values), and what the name server was asked."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=(LOOPBACK, 0))
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [LOOPBACK], transport.get_extra_info("sockname")[1]
    resolver.cache = dns.resolver.LRUCache(10)
    looked_up = SystemNames(resolver)
    try:
        found: list[object] = []
        for name in names:
            found += await asyncio.gather(looked_up.services(name), return_exceptions=True)
        return found, server.questions
    finally:
        looked_up.close()
        transport.close()


def test_srv_records() -> None:
    name = "_matrix-fed._tcp.a.example"
    found, asked = asyncio.run(_ask(name, name))
    records = [SrvRecord(10, 5, 8448, "m.a.example"), SrvRecord(20, 0, 443, "n.a.example")]
    for answer in found:
        assert isinstance(answer, list)
        assert sorted(answer, key=lambda record: record.priority) == records
    assert asked == [name + "."]  # cached by their time to live


def test_that_there_is_no_record_is_an_answer_and_an_error_is_none() -> None:
    found, _ = asyncio.run(_ask("_matrix._tcp.gone.example", "_matrix._tcp.empty.example"))
    assert found == [[], []]
    found, _ = asyncio.run(_ask("_matrix._tcp.broken.example", "_matrix._tcp." + "x" * 64 + ".example"))
    assert [type(answer) for answer in found] == [NameLookupFailed, NameLookupFailed]


def test_a_root_target_is_kept_and_a_flood_of_records_is_not() -> None:
    found, _ = asyncio.run(_ask("_matrix-fed._tcp.none.example", "_matrix-fed._tcp.many.example"))
    assert found[0] in ([SrvRecord(0, 0, 0, "")], [SrvRecord(0, 0, 0, ".")])
    assert isinstance(found[1], list)
    assert len(found[1]) == 16


def test_addresses_come_from_the_operating_system() -> None:
    async def scenario() -> None:
        looked_up = SystemNames()
        try:
            assert set(await looked_up.addresses("localhost")) <= {LOOPBACK, "::1"}
            for name in ("a..b", "x" * 64 + ".example"):
                with pytest.raises(OSError):
                    await looked_up.addresses(name)
        finally:
            looked_up.close()

    asyncio.run(scenario())


def test_aiohttp_gets_addresses_of_both_kinds() -> None:
    async def scenario() -> None:
        names = AiohttpNames(FakeNames(hosts={"a.example": ["::1", LOOPBACK], "none.example": []}))
        found = await names.resolve("a.example", 99)
        assert [(item["host"], item["port"], item["family"]) for item in found] == [
            ("::1", 99, socket.AF_INET6),
            (LOOPBACK, 99, socket.AF_INET),
        ]
        with pytest.raises(NameLookupFailed):
            await names.resolve("none.example", 99)

    asyncio.run(scenario())
