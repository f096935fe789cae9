"""The section `[kafka]`: where the topics are, and how to log in to the brokers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

SECRET_BYTES_MAX = 4096
# A prefix of Kafka's topic names, which may have 249 characters.
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
# These decide whether an acknowledged record is kept once and in its place: they are not an operator's to choose.
_OURS = frozenset(
    {
        "bootstrap.servers",
        "metadata.broker.list",
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "enable.gapless.guarantee",
        "transactional.id",
        "allow.auto.create.topics",
        "auto.offset.reset",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "group.id",
        "isolation.level",
    }
)
# Secrets come from files, so that they stand in no configuration, no list of processes and no message.
_SECRETS = frozenset({"sasl.password", "ssl.key.password", "ssl.key.pem"})


def _namespace(name: str) -> str:
    if not _NAMESPACE.fullmatch(name):
        raise ValueError("letters, digits, _ and - only, at most 100")
    return name


def _as_text(properties: object) -> object:
    """TOML has numbers and booleans, librdkafka takes text."""
    if not isinstance(properties, Mapping):
        return properties
    return {name: str(value).lower() if isinstance(value, bool | int) else value for name, value in properties.items()}


class Unshown(dict[str, str]):
    """Properties among which are secrets: they do not show where settings are printed."""

    def __repr__(self) -> str:
        return f"<{len(self)} properties>"


class KafkaSection(BaseModel):
    """`properties`: any setting of librdkafka, by its name, for every client; what has a setting of its own here wins.

    `replication_factor` -1 is the brokers' default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: Annotated[str, AfterValidator(_namespace)] = "annals"
    replication_factor: Annotated[int, Field(ge=-1, le=32767)] = -1
    min_insync_replicas: Annotated[int, Field(ge=1)] = 1
    # How long a record may wait for the brokers before it is refused, and how long any other answer of theirs may take.
    append_wait_s: Annotated[float, Field(gt=0)] = 10.0
    request_wait_s: Annotated[float, Field(gt=0)] = 10.0
    # A process `projectors` that is silent for so long loses its partitions to others.
    member_wait_s: Annotated[float, Field(ge=1)] = 6.0
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    ssl_ca_file: Path | None = None
    ssl_certificate_file: Path | None = None
    ssl_key_file: Path | None = None
    ssl_key_password_file: Path | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password_file: Path | None = None
    properties: Annotated[Mapping[str, str], BeforeValidator(_as_text)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> KafkaSection:
        if self.replication_factor == 0:
            raise ValueError("replication_factor: at least 1, or -1 for the brokers' default")
        if 0 < self.replication_factor < self.min_insync_replicas:
            raise ValueError("min_insync_replicas: more than replication_factor: nothing could be written")
        if (self.ssl_certificate_file is None) != (self.ssl_key_file is None):
            raise ValueError("ssl_certificate_file and ssl_key_file: give both, or neither")
        self._check_sasl()
        for name in self.properties:
            if name in _OURS:
                raise ValueError(f"properties: {name} is not yours to set: the log's promises rest on it")
            if name in _SECRETS:
                raise ValueError(f"properties: {name} is a secret: there are settings that name a file of it")
        return self

    def _check_sasl(self) -> None:
        asked = {
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_username": self.sasl_username,
            "sasl_password_file": self.sasl_password_file,
        }
        if self.security_protocol.startswith("sasl"):
            # Another mechanism (OAUTHBEARER, GSSAPI) comes with properties of its own.
            if "sasl.mechanism" not in self.properties and "sasl.mechanisms" not in self.properties:
                for name, value in asked.items():
                    if value is None:
                        raise ValueError(f"{name}: needed with security_protocol {self.security_protocol}")
            return
        for name, value in asked.items():
            if value is not None:
                raise ValueError(f"{name}: security_protocol {self.security_protocol} does not log in")

    def librdkafka(self) -> Unshown:
        """The properties of every client, secrets included. Raises ValueError, which names the setting at fault."""
        protocol = {"security.protocol": self.security_protocol}
        return Unshown({**self.properties, **protocol, **dict(self._plain()), **dict(self._secret())})

    def _plain(self) -> Iterator[tuple[str, str]]:
        for setting, name in (
            ("ssl_ca_file", "ssl.ca.location"),
            ("ssl_certificate_file", "ssl.certificate.location"),
            ("ssl_key_file", "ssl.key.location"),
        ):
            path: Path | None = getattr(self, setting)
            if path is not None:
                _readable(setting, path)
                yield name, str(path)
        if self.sasl_mechanism is not None:
            yield "sasl.mechanisms", self.sasl_mechanism
        if self.sasl_username is not None:
            yield "sasl.username", self.sasl_username

    def _secret(self) -> Iterator[tuple[str, str]]:
        for setting, name in (
            ("ssl_key_password_file", "ssl.key.password"),
            ("sasl_password_file", "sasl.password"),
        ):
            path: Path | None = getattr(self, setting)
            if path is not None:
                yield name, _secret(setting, path)


def _readable(setting: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"kafka.{setting}: {path}: {error.strerror}") from None


def _secret(setting: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            secret = file.read(SECRET_BYTES_MAX).decode().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"kafka.{setting}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"kafka.{setting}: {path} is not text") from None
    if not secret:
        raise ValueError(f"kafka.{setting}: {path} is empty")
    return secret
