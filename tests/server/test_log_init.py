"""`annals log init` and a start on Kafka: who makes topics, who refuses, and what is said."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from annals.server.cli import main
from annals.server.config import Config, ConfigError, load
from annals.server.log_setup import first_genesis, open_log
from tests.support.kafka import KafkaAddress
from tests.support.patience import PATIENCE_S, PATIENT_KAFKA
from tests.support.ports import free_port
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("no_settings")


@pytest.fixture
def config(tmp_path: Path, kafka: KafkaAddress, kafka_namespace: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("ANNALS_LOG", "kafka")
    monkeypatch.setenv("KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("ANNALS_KAFKA__NAMESPACE", kafka_namespace)
    monkeypatch.setenv("ANNALS_DATA_DIR", str(tmp_path / "data"))
    for name, value in PATIENT_KAFKA.items():
        monkeypatch.setenv(name, value)
    return load()


def topics(config: Config) -> set[str]:
    assert config.kafka_bootstrap is not None
    admin = AdminClient({"bootstrap.servers": config.kafka_bootstrap})
    return {name for name in admin.list_topics(timeout=PATIENCE_S).topics if name.startswith(config.kafka.namespace)}


def test_it_makes_all_and_a_second_time_nothing(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "init"]) == 0
    made = capsys.readouterr().out.splitlines()
    assert "made   rooms          8 partitions" in made
    assert "made   decisions.g1   8 partitions" in made
    assert not any(line.startswith("found") for line in made)
    keys = config.master_key_path.read_bytes(), config.signing_key_path.read_bytes()
    with closing(open_log(config)) as log:
        genesis = first_genesis(log)
        assert genesis is not None
        assert (genesis.server_name, genesis.log_id) == ("localhost", log.log_id)
        assert made[-1].startswith(f"log {log.log_id} of localhost is ready: {config.kafka_bootstrap}")
        ends = log.ends("operations")

    assert main(["log", "init"]) == 0
    found = capsys.readouterr().out.splitlines()
    assert len(found) == len(made)
    assert not any(line.startswith("made") for line in found)
    assert (config.master_key_path.read_bytes(), config.signing_key_path.read_bytes()) == keys
    with closing(open_log(config)) as log:
        assert log.ends("operations") == ends


def test_a_start_makes_no_topics(config: Config) -> None:
    with pytest.raises(ConfigError, match="annals log init"):
        open_log(config)
    assert topics(config) == set()


def test_a_start_names_each_difference(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "init"]) == 0
    namespace = config.kafka.namespace
    admin = AdminClient({"bootstrap.servers": config.kafka_bootstrap or ""})
    for future in admin.delete_topics([f"{namespace}.rooms", f"{namespace}.receipts"]).values():
        future.result(PATIENCE_S)
    again = NewTopic(f"{namespace}.receipts", 3, 1, config={"cleanup.policy": "delete"})
    admin.create_topics([again])[again.topic].result(PATIENCE_S)
    # Its controller has done so; what the broker shows follows in a moment.
    until(lambda: _shown(admin, namespace) == {"rooms": 0, "receipts": 3}, "the broker shows it")
    with pytest.raises(ConfigError) as raised:
        open_log(config)
    said = str(raised.value)
    assert "rooms is missing" in said
    assert "receipts has partitions 3, should be 8" in said
    assert "receipts has cleanup.policy delete, should be compact" in said
    assert "annals log init" in said

    capsys.readouterr()
    assert main(["log", "init"]) == 1
    said = capsys.readouterr().err
    assert "annals: receipts has partitions 3, should be 8" in said.splitlines()
    assert f"{namespace}.rooms" not in topics(config)  # all, or nothing


def _shown(admin: AdminClient, namespace: str) -> dict[str, int]:
    """How many partitions these two topics have, 0 where there is no such topic."""
    found = admin.list_topics(timeout=PATIENCE_S).topics
    names = {name: found.get(f"{namespace}.{name}") for name in ("rooms", "receipts")}
    return {name: len(topic.partitions) if topic is not None else 0 for name, topic in names.items()}


def test_another_servers_log_is_refused(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["log", "init"]) == 0
    monkeypatch.setenv("ANNALS_SERVER_NAME", "other.example")
    assert main(["log", "init"]) == 78


def test_a_second_machine_makes_no_keys_of_its_own(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["log", "init"]) == 0
    monkeypatch.setenv("ANNALS_DATA_DIR", str(tmp_path / "second"))
    for command in (["log", "init"], ["config", "plan"]):
        assert main(command) == 78
        assert "takes a copy of it" in capsys.readouterr().err
    assert not list((tmp_path / "second").rglob("*.key"))


def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ANNALS_LOG", "kafka")
    monkeypatch.setenv("KAFKA_BOOTSTRAP", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("ANNALS_KAFKA__REQUEST_WAIT_S", "1.5")
    monkeypatch.setenv("ANNALS_DATA_DIR", str(tmp_path / "data"))

    def said_why() -> bool:
        assert main(["log", "init"]) == 1
        return "Connection refused" in capsys.readouterr().err

    # In a second and a half without a processor the library has not even tried.
    until(said_why, "it says why")


def test_the_embedded_log_is_made_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANNALS_DATA_DIR", str(tmp_path / "data"))
    assert main(["log", "init"]) == 0
    assert "made   rooms          8 partitions" in capsys.readouterr().out.splitlines()
    assert main(["log", "init"]) == 0
    assert "found  rooms          8 partitions" in capsys.readouterr().out.splitlines()
