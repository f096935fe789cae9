"""What a client of librdkafka says: to people by way of `logging`, and to us, as nothing else tells it.

Two things that a reader must know stand in its log alone: which incarnation of a topic it fetches from (its fetches
name the topic by its id, and it goes over to another id by itself), and that it has connected anew. The lines are put
into the queue from which the records are taken, before anything is fetched by what they say, so whoever has seen no
such line before a record knows that the record is of the topic, and of the connection, that he knew. A reader takes no
record of a topic whose id was not said: were a later librdkafka to word these lines otherwise, nothing would be read.
"""

from __future__ import annotations

import logging
import re
import time

logger = logging.getLogger("annals.eventlog.kafka")

DEBUG = "metadata"  # the `debug` context of librdkafka that has these lines: some at each connection, else few

_CHANGED_ID = re.compile(r"Topic (\S+) changed id from \S+ to (\S+)")
_SAY_EVERY_S = 10.0
_EXPECTED = (
    # A setting, which we want, is new; and a new broker takes a moment until it gives out producer ids.
    "enable.gapless.guarantee is experimental",
    "Failed to acquire idempotence PID",
    # The appender ends such a producer, and says so.
    "unable to satisfy gap-less guarantee",
)
# While a broker is away every client of ours says so, several times a second.
_OFTEN = frozenset(("FAIL", "ERROR"))
_said_at: dict[str, float] = {}


class ClientLog:
    """Given to a client as its `logger`. It calls `log` on the thread that polls it.

    `ids`: the id of each topic by its name on the broker, as the client uses it now. `connected_anew`: set when it
    says that it has connected; whoever looks at it takes it back.
    """

    def __init__(self) -> None:
        self.ids: dict[str, str] = {}
        self.connected_anew = False

    def log(self, level: int, form: str, *arguments: object) -> None:
        text = form % arguments if arguments else form
        if level <= logging.DEBUG:
            self._learn(text)
        # What nobody hears keeps nothing else from being said.
        elif logger.isEnabledFor(level) and _worth_saying(text):
            logger.log(level, "%s", text)

    def _learn(self, text: str) -> None:
        if (changed := _CHANGED_ID.search(text)) is not None:
            self.ids[changed[1]] = changed[2]
        # Its coordinator's connection carries no records.
        elif "connected" in text and "[thrd:GroupCoordinator]" not in text:
            self.connected_anew = True


def _worth_saying(text: str) -> bool:
    if any(expected in text for expected in _EXPECTED):
        return False
    kind, now = text.split(" ", 1)[0], time.monotonic()
    if kind not in _OFTEN:
        return True
    if now - _said_at.get(kind, -_SAY_EVERY_S) < _SAY_EVERY_S:
        return False
    _said_at[kind] = now
    return True
