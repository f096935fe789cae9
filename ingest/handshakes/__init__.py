"""Handshakes: our users' ways into, and out of, rooms of other servers, carried out by the process `remote`.

    HandshakeStarted ─▶ row of `handshakes` ─▶ Runner ─▶ make_* ─▶ template, checked ─▶ our event ─▶ send_* ─▶ answer
                                                 ▲                                                              │
            next server, or HandshakeFailed ◀────┴── whatever is wrong ◀──── verified, ordered ◀────────────────┤
                                                                                                                ▼
                                   PduFetched …, StateSetChunk …, StateSetClosed   or   MembershipReceived

A handshake may be begun again at any point, by this process or another: what is on the log by then is known by its id,
and the set of an attempt that was not closed is never looked at.
"""
