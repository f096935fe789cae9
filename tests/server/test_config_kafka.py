"""The section [kafka]: what is refused, what becomes of it, and that no secret shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from annals.server.cli import main
from annals.server.config import Config, ConfigError, kafka_settings, load

pytestmark = pytest.mark.usefixtures("no_settings")

KAFKA = 'log_backend = "kafka"\nkafka_bootstrap = "b1:9092,b2:9092"\n[kafka]\n'
LOGIN = 'security_protocol = "sasl_plaintext"\nsasl_mechanism = "PLAIN"\nsasl_username = "annals"\n'


def read(folder: Path, text: str) -> Config:
    path = folder / "annals.toml"
    path.write_text(text)
    return load(path)


def test_nothing_but_the_brokers(tmp_path: Path) -> None:
    settings = kafka_settings(read(tmp_path, KAFKA))
    assert (settings.bootstrap, settings.namespace) == ("b1:9092,b2:9092", "annals")
    assert (settings.replication_factor, settings.min_insync_replicas) == (-1, 1)
    waits_ms = (settings.append_timeout_ms, settings.request_timeout_ms, settings.member_timeout_ms)
    assert waits_ms == (10_000, 10_000, 6_000)
    assert settings.properties == {"security.protocol": "plaintext"}


def test_variables_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNALS_LOG", "kafka")
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "b:9092")
    monkeypatch.setenv("ANNALS_KAFKA__NAMESPACE", "two")
    monkeypatch.setenv("ANNALS_KAFKA__MIN_INSYNC_REPLICAS", "2")
    monkeypatch.setenv("ANNALS_KAFKA__APPEND_WAIT_S", "2.5")
    monkeypatch.setenv("ANNALS_KAFKA__REQUEST_WAIT_S", "60")
    monkeypatch.setenv("ANNALS_KAFKA__MEMBER_WAIT_S", "30")
    monkeypatch.setenv("ANNALS_KAFKA__PROPERTIES", '{"client.rack": "r1"}')
    settings = kafka_settings(load())
    waits_ms = (settings.append_timeout_ms, settings.request_timeout_ms, settings.member_timeout_ms)
    assert waits_ms == (2_500, 60_000, 30_000)
    assert (settings.bootstrap, settings.namespace, settings.min_insync_replicas) == ("b:9092", "two", 2)
    assert settings.properties["client.rack"] == "r1"


def test_every_setting_has_its_name_in_the_library(tmp_path: Path) -> None:
    for name, text in {"ca": "", "cert": "", "key": "", "key-password": "k3y\n", "password": "pa55\r\n"}.items():
        (tmp_path / name).write_text(text)
    settings = kafka_settings(
        read(
            tmp_path,
            KAFKA
            + f"""
            namespace = "hs1"
            replication_factor = 3
            min_insync_replicas = 2
            security_protocol = "sasl_ssl"
            ssl_ca_file = "{tmp_path}/ca"
            ssl_certificate_file = "{tmp_path}/cert"
            ssl_key_file = "{tmp_path}/key"
            ssl_key_password_file = "{tmp_path}/key-password"
            sasl_mechanism = "SCRAM-SHA-512"
            sasl_username = "annals"
            sasl_password_file = "{tmp_path}/password"
            [kafka.properties]
            "socket.timeout.ms" = 5000
            "socket.keepalive.enable" = false
            """,
        )
    )
    assert settings.replication_factor == 3
    assert settings.properties == {
        "security.protocol": "sasl_ssl",
        "ssl.ca.location": f"{tmp_path}/ca",
        "ssl.certificate.location": f"{tmp_path}/cert",
        "ssl.key.location": f"{tmp_path}/key",
        "ssl.key.password": "k3y",
        "sasl.mechanisms": "SCRAM-SHA-512",
        "sasl.username": "annals",
        "sasl.password": "pa55",
        "socket.timeout.ms": "5000",
        "socket.keepalive.enable": "false",
    }


REFUSED = [
    ('namespace = "a.b"', "namespace: letters, digits, _ and - only"),
    ("replication_factor = 0", "replication_factor: at least 1"),
    ("replication_factor = 2\nmin_insync_replicas = 3", "min_insync_replicas: more than replication_factor"),
    ('ssl_key_file = "key"', "ssl_certificate_file and ssl_key_file: give both"),
    ('ssl_ca_file = "/nonexistent/ca"', "kafka.ssl_ca_file: /nonexistent/ca: No such file"),
    ('security_protocol = "sasl_ssl"', "sasl_mechanism: needed with security_protocol sasl_ssl"),
    ('sasl_username = "annals"', "sasl_username: security_protocol plaintext does not log in"),
    (LOGIN, "sasl_password_file: needed with security_protocol sasl_plaintext"),
    (LOGIN + 'sasl_password_file = "/nonexistent/p"', "kafka.sasl_password_file: /nonexistent/p: No such file"),
    ('sasl_password = "pa55"', "kafka.sasl_password: no such setting"),
    ('properties = { "acks" = "1" }', "acks is not yours to set"),
    ('properties = { "sasl.password" = "pa55" }', "sasl.password is a secret"),
    ('properties = { "ssl.key.pem" = ["pa55"] }', "Input should be a valid string"),
]


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_a_fault_is_named_without_what_was_given(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(tmp_path, KAFKA + text)
    assert said in str(raised.value)
    assert "pa55" not in str(raised.value)


def test_a_password_stands_in_no_message_and_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pa55")
    config = read(tmp_path, KAFKA + LOGIN + f'sasl_password_file = "{tmp_path}/password"')
    assert kafka_settings(config).properties["sasl.password"] == "pa55"
    assert "pa55" not in repr(config)
    assert "pa55" not in repr(kafka_settings(config))
    (tmp_path / "password").write_text("")
    with pytest.raises(ConfigError, match="is empty"):
        kafka_settings(config)


def test_check_asks_the_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "annals.toml"
    path.write_text(KAFKA + 'properties = { "no.such.property" = "1" }')
    assert main(["config", "check", "--config", str(path)]) == 78
    assert 'annals: kafka: No such configuration property: "no.such.property"' in capsys.readouterr().err
    path.write_text(KAFKA + 'namespace = "hs1"')
    assert main(["config", "check", "--config", str(path)]) == 0
    assert "kafka  b1:9092,b2:9092 namespace hs1" in capsys.readouterr().out
