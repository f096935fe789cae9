"""How a topic must be kept on the brokers, and what about one is not so."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from annals.eventlog.errors import LogUnavailable, TopicsDiffer, UnknownTopic
from annals.eventlog.kafka.administration import Administration, Found
from annals.eventlog.kafka.settings import BATCH_BYTES, KafkaSettings
from annals.schemas.topics import TopicSpec

_EVER = "-1"
_ANY = str(2**63 - 1)
_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
_AT_LEAST = frozenset(("max.message.bytes", "min.insync.replicas"))
_AGES = frozenset(("retention.ms", "segment.ms", "delete.retention.ms"))


def wanted(spec: TopicSpec, settings: KafkaSettings) -> dict[str, str]:
    """A topic's settings, by Kafka's names."""
    configs = {
        "cleanup.policy": "compact" if spec.compacted else "delete",
        "retention.ms": _EVER if spec.retention_ms is None else str(spec.retention_ms),
        "retention.bytes": _EVER,
        "max.message.bytes": str(BATCH_BYTES),
        "min.insync.replicas": str(settings.min_insync_replicas),
        "unclean.leader.election.enable": "false",
        # What was appended long ago, or by a clock that is wrong, is taken all the same: nothing goes by it where
        # records are kept for ever.
        "message.timestamp.type": "CreateTime",
        "message.timestamp.before.max.ms": _ANY,
        "message.timestamp.after.max.ms": _ANY,
    }
    if spec.compacted:
        # The upper bound makes sure that what was erased is gone after a day, on a topic that hardly grows too.
        configs["min.compaction.lag.ms"] = str(_MINUTE_MS)
        configs["max.compaction.lag.ms"] = str(_DAY_MS)
        configs["delete.retention.ms"] = str(spec.delete_retention_ms)
    if spec.retention_ms is not None:
        # Only whole segments go, and never the one that is written.
        configs["segment.ms"] = str(spec.retention_ms)
    return configs


def _differing(spec: TopicSpec, found: Found, settings: KafkaSettings) -> dict[str, tuple[str, str]]:
    """Found and wanted, by setting."""
    differing = {}
    if found.partitions != spec.partitions:
        differing["partitions"] = (str(found.partitions), str(spec.partitions))
    if found.replicas < settings.replication_factor:
        differing["replicas"] = (str(found.replicas), str(settings.replication_factor))
    for setting, value in wanted(spec, settings).items():
        has = found.configs.get(setting, "unknown")
        enough = setting in _AT_LEAST and has.isdecimal() and int(has) >= int(value)
        if has != value and not enough:
            differing[setting] = (has, value)
    return differing


def _may_change(setting: str, found: Found) -> bool:
    """Ages may change; that records begin to go, may not."""
    return setting == "delete.retention.ms" or (setting in _AGES and found.configs.get("retention.ms") != _EVER)


def _lines(spec: TopicSpec, differing: dict[str, tuple[str, str]]) -> list[str]:
    return [f"{spec.name} has {setting} {found}, should be {value}" for setting, (found, value) in differing.items()]


def _anew(spec: TopicSpec, found: Found, ids: Mapping[str, str]) -> list[str]:
    was = ids.get(spec.name, found.topic_id)
    return [] if was == found.topic_id else [f"{spec.name} was made anew (id {found.topic_id}, was {was})"]


def check(
    administration: Administration, settings: KafkaSettings, specs: Sequence[TopicSpec], ids: Mapping[str, str]
) -> None:
    """Raises TopicsDiffer, naming each difference, where a topic is missing or not as it must be. `ids`: those that the
    topics had, by name, as far as anybody knows."""
    found = administration.topics(spec.name for spec in specs)
    wrong = []
    for spec in specs:
        if spec.name not in found:
            wrong.append(f"{spec.name} is missing")
        else:
            wrong += _anew(spec, found[spec.name], ids)
            wrong += _lines(spec, _differing(spec, found[spec.name], settings))
    if wrong:
        raise TopicsDiffer(wrong)


def ensure(
    administration: Administration, settings: KafkaSettings, specs: Sequence[TopicSpec], ids: Mapping[str, str]
) -> None:
    """Makes what is missing. Raises TopicsDiffer before anything is made. `ids`: see `check`."""
    found = administration.topics(spec.name for spec in specs)
    wrong, changes = [], {}
    for spec in specs:
        if spec.name not in found:
            continue
        differing = _differing(spec, found[spec.name], settings)
        ages = {k: v for k, v in differing.items() if _may_change(k, found[spec.name])}
        wrong += _anew(spec, found[spec.name], ids)
        wrong += _lines(spec, {k: v for k, v in differing.items() if k not in ages})
        changes[spec.name] = {setting: value for setting, (_, value) in ages.items()}
    if wrong:
        raise TopicsDiffer(wrong)
    missing = [spec for spec in specs if spec.name not in found]
    administration.create({spec.name: (spec.partitions, wanted(spec, settings)) for spec in missing})
    for name, configs in changes.items():
        if configs:
            administration.alter(name, configs)
    if missing:
        _await(administration, settings, missing)


def _await(administration: Administration, settings: KafkaSettings, specs: Sequence[TopicSpec]) -> None:
    """Until all brokers that may be asked know the new topics: what a broker has made it tells the others."""
    names = {spec.name for spec in specs}
    deadline = time.monotonic() + settings.request_timeout_s
    while True:
        try:
            if administration.topics(names).keys() == names:
                administration.ends((spec.name, number) for spec in specs for number in range(spec.partitions))
                break
        except (LogUnavailable, UnknownTopic):
            pass
        if time.monotonic() > deadline:
            raise LogUnavailable(f"topics were made but do not show: {', '.join(sorted(names))}")
        time.sleep(0.02)
    check(administration, settings, specs, {})  # somebody else may have made one of them
