"""The settings of a server: one TOML file and environment variables, checked as a whole before anything starts.

A variable wins over the file. `ANNALS_<NAME>` sets a setting, `ANNALS_<SECTION>__<NAME>` one inside a section, lists as
JSON; DATABASE_URL, KAFKA_BOOTSTRAP and ANNALS_LOG are the names that other tools use too. A key or an ANNALS_ variable
that nothing reads is an error, since it is a misspelt one more often than not.

With neither file nor variables the settings describe a server for trying things out: `localhost`, on loopback, with
its data in ./data.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from annals.matrix.identifiers import is_server_name
from annals.matrix.room_versions import DEFAULT, ROOM_VERSIONS
from annals.server.config_federation import FederationSection
from annals.server.config_kafka import KafkaSection, Unshown

if TYPE_CHECKING:
    from annals.eventlog.kafka import KafkaSettings
    from annals.matrix.signing import VerifyKey

ENV_PREFIX = "ANNALS_"
CONFIG_VARIABLE = "ANNALS_CONFIG"
# Read by other parts of the program, not as settings.
OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "ANNALS_SUPERVISOR_PID"})
# Settings whose variables have names that other tools use too: name in the file, variable.
LOG = ("log_backend", "ANNALS_LOG")
KAFKA = ("kafka_bootstrap", "KAFKA_BOOTSTRAP")
DATABASE = ("database_url", "DATABASE_URL")


class ConfigError(Exception):
    """The configuration cannot be used; the message has a line for each fault."""


def _server_name(name: str) -> str:
    if not is_server_name(name):
        raise ValueError("not a server name (a host, or host:port)")
    return name


def _room_version(version: str) -> str:
    if version not in ROOM_VERSIONS:
        raise ValueError(f"not a known room version (one of {', '.join(ROOM_VERSIONS)})")
    return version


def _base_url(url: str) -> str:
    TypeAdapter(HttpUrl).validate_python(url)
    return url if url.endswith("/") else url + "/"


Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listener(Section):
    """An address that speaks plain HTTP: for loopback, or behind a reverse proxy."""

    address: str = "127.0.0.1"
    port: Port = 8008


class TlsListener(Section):
    """An address that speaks HTTPS, for other servers. Every listener serves every API."""

    address: str = "127.0.0.1"
    port: Port = 8448
    tls_cert: Path
    tls_key: Path


class Registration(Section):
    """Who may make an account. The shared secret lets its holder make any, administrators too."""

    enabled: bool = False
    shared_secret: SecretStr | None = None
    shared_secret_file: Path | None = None

    @model_validator(mode="after")
    def _one_secret(self) -> Registration:
        if self.shared_secret is not None and self.shared_secret_file is not None:
            raise ValueError("give shared_secret or shared_secret_file, not both")
        return self

    def secret(self) -> str | None:
        """The shared secret, wherever it stands; None when there is none. Raises ConfigError on a file without one."""
        if self.shared_secret_file is None:
            return None if self.shared_secret is None else self.shared_secret.get_secret_value()
        try:
            secret = self.shared_secret_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"registration.shared_secret_file: {error}") from error
        if not secret:
            raise ConfigError(f"registration.shared_secret_file: {self.shared_secret_file} is empty")
        return secret


class RateLimit(Section):
    """A bucket of `burst` requests, filled at `per_second`."""

    per_second: float = Field(gt=0)
    burst: int = Field(ge=1)


class RateLimits(Section):
    """Limits for each user (for each address, where nobody is logged in yet). `enabled = false` switches all off."""

    enabled: bool = True
    message: RateLimit = RateLimit(per_second=10, burst=50)
    login: RateLimit = RateLimit(per_second=0.2, burst=10)
    registration: RateLimit = RateLimit(per_second=0.2, burst=5)
    room_creation: RateLimit = RateLimit(per_second=0.2, burst=10)


class Logging(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class Metrics(Section):
    """Prometheus metrics at /metrics of every listener. `projectors` and `remote` have none: run by themselves, they
    listen at `address` and `port`, where a port is given."""

    enabled: bool = True
    address: str = "127.0.0.1"
    port: Port | None = None


class PresenceSection(Section):
    """Who is online. Switched off, everybody is offline, and nobody hears of anybody, here or elsewhere."""

    enabled: bool = True


class OldSigningKey(Section):
    """A key that signed for this server: its public half, and when (ms since 1970) it was used last."""

    key: str
    expired_ts: Annotated[int, Field(ge=0, lt=2**63)]


class Config(BaseSettings):
    """All settings. Read them with `load`."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_parse_none_str="null"
    )

    server_name: Annotated[str, AfterValidator(_server_name)] = "localhost"
    public_baseurl: Annotated[str, AfterValidator(_base_url)] | None = None
    data_dir: Path = Path("data")
    client_listeners: tuple[Listener, ...] = (Listener(),)
    federation_listener: TlsListener | None = None

    log_backend: Literal["embedded", "kafka"] = Field(default="embedded", validation_alias=AliasChoices(*LOG))
    kafka_bootstrap: str | None = Field(default=None, validation_alias=AliasChoices(*KAFKA))
    kafka: KafkaSection = KafkaSection()
    database_url: SecretStr | None = Field(default=None, validation_alias=AliasChoices(*DATABASE))
    # Settings of the embedded PostgreSQL that replace or add to ours.
    postgres_settings: Mapping[str, str] = Field(default_factory=dict)

    master_key_file: Path | None = None
    signing_key_file: Path | None = None

    # Keys that sign no more, by their ids (`ed25519:…`): what they signed goes on being ours.
    old_signing_keys: Mapping[str, OldSigningKey] = Field(default_factory=dict)

    # Registrations of application services: every *.yaml in it.
    appservice_dir: Path | None = None
    default_room_version: Annotated[str, AfterValidator(_room_version)] = DEFAULT
    # How long a request waits, after a start, for the tables to catch up with the log; then it is answered 503.
    starting_wait_s: float = Field(default=10.0, ge=0)
    # How long a request waits for the tables to have what it wrote, or what its client has seen; then 503.
    tables_wait_s: float = Field(default=10.0, ge=0)
    registration: Registration = Registration()
    rate_limits: RateLimits = RateLimits()
    logging: Logging = Logging()
    metrics: Metrics = Metrics()
    federation: FederationSection = FederationSection()
    presence: PresenceSection = PresenceSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The file's keys come as arguments; a variable wins over them.
        return env_settings, init_settings

    @property
    def log_dir(self) -> Path:
        """Where the embedded log lies: the one folder that cannot be made again."""
        return self.data_dir / "log"

    @property
    def keys_dir(self) -> Path:
        return self.data_dir / "keys"

    @property
    def master_key_path(self) -> Path:
        """The key that seals what is personal. Outside the log, so that a copy of the log does not open it."""
        return self.master_key_file or self.keys_dir / "master.key"

    @property
    def signing_key_path(self) -> Path:
        return self.signing_key_file or self.keys_dir / "signing.key"

    def retired_keys(self) -> list[tuple[VerifyKey, int]]:
        """`old_signing_keys`, with the time at which each was used last. Raises ValueError."""
        if not self.old_signing_keys:
            return []
        from annals.matrix.errors import SignatureInvalid
        from annals.matrix.signing import VerifyKey

        try:
            return [
                (VerifyKey.from_base64(key_id, old.key), old.expired_ts)
                for key_id, old in self.old_signing_keys.items()
            ]
        except SignatureInvalid as error:
            raise ValueError(f"old_signing_keys: {error}") from None

    @model_validator(mode="after")
    def _whole(self) -> Config:
        self.retired_keys()
        if self.log_backend == "kafka" and not self.kafka_bootstrap:
            raise ValueError("kafka_bootstrap: needed with log_backend kafka (host:port of some brokers, with commas)")
        if not self.client_listeners:
            raise ValueError("client_listeners: at least one is needed")
        log_dir = self.log_dir.absolute()
        for name, path in (("master_key_file", self.master_key_path), ("signing_key_file", self.signing_key_path)):
            if path.absolute().is_relative_to(log_dir):
                raise ValueError(f"{name}: keep it outside of the log's folder {log_dir}")
        return self


def database_url(config: Config) -> str:
    """The URL of PostgreSQL: an operator's own, or the one that `annals serve` started."""
    if config.database_url is None:
        raise ConfigError("database_url: not set; `annals serve` starts a PostgreSQL, a role alone does not")
    return config.database_url.get_secret_value()


def kafka_settings(config: Config) -> KafkaSettings:
    """How the log on Kafka is reached. Raises ConfigError, also where a file that it names cannot be read."""
    from annals.eventlog.kafka import KafkaSettings  # takes librdkafka along: not for a server on the embedded log

    section = config.kafka
    return KafkaSettings(
        bootstrap=config.kafka_bootstrap or "",
        namespace=section.namespace,
        replication_factor=section.replication_factor,
        min_insync_replicas=section.min_insync_replicas,
        properties=_kafka_properties(config),
        append_timeout_ms=round(section.append_wait_s * 1000),
        request_timeout_ms=round(section.request_wait_s * 1000),
        member_timeout_ms=round(section.member_wait_s * 1000),
    )


def _kafka_properties(config: Config) -> Unshown:
    try:
        return config.kafka.librdkafka()
    except ValueError as error:
        raise ConfigError(str(error)) from None


def load(path: Path | None = None) -> Config:
    """Read file (or the one that ANNALS_CONFIG names, or none) and environment. Raises ConfigError."""
    if path is None and (named := os.environ.get(CONFIG_VARIABLE)):
        path = Path(named)
    try:
        config = Config(**_file(path))
    except ValidationError as error:
        raise ConfigError("\n".join(_faults(error))) from error
    if unread := _unread_variables():
        raise ConfigError("\n".join(f"{name}: no such setting" for name in unread))
    config.registration.secret()
    if config.log_backend == "kafka":
        _kafka_properties(config)
    return config


def _file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _faults(error: ValidationError) -> list[str]:
    """A line for each fault. What was given is left out: it may be a secret."""
    lines = []
    for fault in error.errors(include_input=False, include_url=False):
        where = ".".join(str(part) for part in fault["loc"])
        said = "no such setting" if fault["type"] == "extra_forbidden" else fault["msg"].removeprefix("Value error, ")
        lines.append(f"{where}: {said}" if where else said)
    return lines


def _unread_variables() -> list[str]:
    named_otherwise = {name for name, _ in (LOG, KAFKA, DATABASE)}
    known = {(ENV_PREFIX + name).upper() for name in Config.model_fields.keys() - named_otherwise}
    known |= OTHER_VARIABLES | {LOG[1]}
    return sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and name.partition("__")[0] not in known)
