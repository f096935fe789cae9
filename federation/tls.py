"""The TLS context of connections to other servers."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path


def client_context(ca_files: Sequence[Path] = ()) -> ssl.SSLContext:
    """A context that demands a valid certificate of the operating system's authorities, or of `ca_files` instead.

    Raises OSError (ssl.SSLError among them) where a file cannot be used.
    """
    if not ca_files:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks names and demands certificates
        for path in ca_files:
            context.load_verify_locations(cafile=path)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
