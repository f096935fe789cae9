"""The address filter: what must never be connected to, in every spelling."""

from __future__ import annotations

import socket

import pytest

from annals.federation.addresses import AddressDenied, AddressFilter

DEFAULT = AddressFilter.of()


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "198.18.0.1", "192.0.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "64:ff9b::7f00:1"),
        *("64:ff9b:1::1", "2002:7f00:1::", "2002:c0a8:101::1", "2001:0:4136:e378::1"),
        *("", "localhost", "0x7f.1", "2130706433", "127.1", "1.2.3.4.5"),
    ],
)
def test_no_public_servers_address_is_refused_by_default(address: str) -> None:
    assert not DEFAULT.permits(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2a01:4f8::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_a_public_servers_address_passes(address: str) -> None:
    assert DEFAULT.permits(address)


def test_the_operator_allows_and_denies_ranges() -> None:
    chosen = AddressFilter.of(denied=["10.0.0.0/8", "8.8.8.0/24"], allowed=["10.9.0.0/16"])
    assert [chosen.permits(a) for a in ("10.9.1.1", "10.8.1.1", "8.8.8.8", "9.9.9.9")] == [True, False, False, True]
    with pytest.raises(ValueError):
        AddressFilter.of(denied=["10.0.0.0/33"])


def test_a_socket_is_made_for_what_passes_only() -> None:
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    DEFAULT.socket_for((*kind, ("8.8.8.8", 1))).close()
    with pytest.raises(AddressDenied):
        DEFAULT.socket_for((*kind, ("10.0.0.1", 1)))
    with pytest.raises(AddressDenied):
        DEFAULT.socket_for((socket.AF_UNIX, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 1)))
