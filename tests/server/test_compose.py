"""docker/compose.yaml: what it says is what our commands and settings understand. Docker itself is not asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from annals.server.cli import parser
from annals.server.config import database_url, kafka_settings, load

ROOT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$\{(\w+):\?[^}]*\}")
GIVEN = {"SERVER_NAME": "example.org", "POSTGRES_PASSWORD": "pa55"}
COMMANDS = {
    "init": ["log", "init"],
    "migrate": ["migrate"],
    "projectors": ["run", "projectors"],
    "remote": ["run", "remote"],
    "api": ["run", "api"],
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    text = VARIABLE.sub(lambda found: GIVEN[found[1]], (ROOT / "docker" / "compose.yaml").read_text())
    assert "${" not in text
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def test_each_service_runs_a_command_that_there_is(compose: dict[str, Any]) -> None:
    services = compose["services"]
    ours = {name: service["command"] for name, service in services.items() if service["image"] == "annals"}
    assert ours == COMMANDS
    for command in ours.values():
        parser().parse_args(command)
    assert services.keys() - ours.keys() == {"kafka", "postgres"}


@pytest.mark.usefixtures("no_settings")
@pytest.mark.parametrize("service", COMMANDS)
def test_its_variables_are_settings(compose: dict[str, Any], service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in compose["services"][service]["environment"].items():
        assert isinstance(value, str), name
        monkeypatch.setenv(name, value)
    config = load()
    assert config.server_name == "example.org"
    broker = compose["services"]["kafka"]["environment"]
    assert broker["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{kafka_settings(config).bootstrap}"
    database = compose["services"]["postgres"]["environment"]
    where = f"{database['POSTGRES_USER']}:{database['POSTGRES_PASSWORD']}@postgres:5432/{database['POSTGRES_DB']}"
    assert database_url(config) == f"postgresql://{where}"
    published = compose["services"]["api"]["ports"][0].rpartition(":")[2]
    assert config.client_listeners[0].port == int(published)


def test_nothing_starts_before_topics_and_tables(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for role in ("projectors", "remote", "api"):
        done = services[role]["depends_on"]
        assert {name for name in done if done[name]["condition"] == "service_completed_successfully"} == {
            "init",
            "migrate",
        }
    for once, needs in (("init", "kafka"), ("migrate", "postgres")):
        assert services[once]["restart"] == "no"
        assert services[once]["depends_on"] == {needs: {"condition": "service_healthy"}}
        assert "healthcheck" in services[needs]


def test_what_must_stay_is_on_volumes(compose: dict[str, Any]) -> None:
    named = {mount.partition(":")[0] for service in compose["services"].values() for mount in service["volumes"]}
    assert named == set(compose["volumes"]) == {"log", "tables", "keys"}
    assert compose["services"]["kafka"]["environment"]["KAFKA_LOG_DIRS"] == "/var/lib/kafka/data"


def test_the_image_is_built_from_files_that_there_are(compose: dict[str, Any]) -> None:
    build = compose["services"]["api"]["build"]
    dockerfile = ROOT / build["dockerfile"]
    assert (ROOT / "docker" / build["context"]).resolve() == ROOT
    for line in dockerfile.read_text().splitlines():
        if line.startswith("COPY "):
            assert (ROOT / line.split()[1]).exists(), line
    assert 'ENTRYPOINT ["annals"]' in dockerfile.read_text()
