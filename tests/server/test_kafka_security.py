"""Brokers that speak TLS only, or want a password: the settings reach the library, and a refusal is said soon."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from annals.server.cli import main
from tests.support.certificate import make_certificate
from tests.support.kafka import KafkaBroker
from tests.support.patience import PATIENCE_S

pytestmark = pytest.mark.usefixtures("no_settings")

PLAIN_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
PASSWORD = "pa55-0f-annals"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """Listeners TLS, which wants no certificate, and LOGIN, which wants a password over TLS."""
    folder = tmp_path_factory.mktemp("secure")
    for name in ("ca", "other"):  # two authorities
        options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}"]
        files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
        subprocess.run(["openssl", "req", *options, *files], check=True, capture_output=True)
    cert, key = make_certificate("localhost", "127.0.0.1", folder / "ca.crt", folder / "ca.key", folder / "broker")
    (folder / "broker.pem").write_bytes(key.read_bytes() + cert.read_bytes())
    (folder / "password").write_text(PASSWORD + "\n")
    (folder / "wrong").write_text("guessed-it-wrong\n")
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.login.plain.sasl.jaas.config": f'{PLAIN_LOGIN} required user_annals="{PASSWORD}";',
    }
    with KafkaBroker(folder, properties, {"TLS": "SSL", "LOGIN": "SASL_SSL"}) as broker:
        yield broker


def init(secure: KafkaBroker, tmp_path: Path, listener: str, kafka: str) -> int:
    """`annals log init` with such a section [kafka]."""
    path = tmp_path / "annals.toml"
    path.write_text(
        f"""
        log_backend = "kafka"
        kafka_bootstrap = "{secure.address(listener)}"
        data_dir = "{tmp_path}/data"
        [kafka]
        namespace = "{tmp_path.name.replace(".", "-")}"
        request_wait_s = {PATIENCE_S}
        append_wait_s = {PATIENCE_S}
        {kafka}
        """
    )
    return main(["log", "init", "--config", str(path)])


def login(secure: KafkaBroker, password: str, ca: str = "ca.crt") -> str:
    return f"""
        security_protocol = "sasl_ssl"
        ssl_ca_file = "{secure.directory}/{ca}"
        sasl_mechanism = "PLAIN"
        sasl_username = "annals"
        sasl_password_file = "{secure.directory}/{password}"
    """


def test_through_tls(secure: KafkaBroker, tmp_path: Path) -> None:
    assert init(secure, tmp_path, "TLS", f'security_protocol = "ssl"\nssl_ca_file = "{secure.directory}/ca.crt"') == 0


def test_with_a_password(secure: KafkaBroker, tmp_path: Path) -> None:
    assert init(secure, tmp_path, "LOGIN", login(secure, "password")) == 0


def test_a_wrong_password(secure: KafkaBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(secure, tmp_path, "LOGIN", login(secure, "wrong")) == 1
    said = capsys.readouterr().err
    assert said.startswith("annals: Kafka at 127.0.0.1:")
    assert "Authentication failed" in said
    assert "guessed-it-wrong" not in said


def test_a_broker_that_another_authority_signed(
    secure: KafkaBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(secure, tmp_path, "LOGIN", login(secure, "password", ca="other.crt")) == 1
    assert "certificate verify failed" in capsys.readouterr().err


def test_a_file_that_holds_no_certificate(
    secure: KafkaBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(secure, tmp_path, "LOGIN", login(secure, "password", ca="password")) == 78
    assert "ssl.ca.location failed" in capsys.readouterr().err
