from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.federation.fixtures import annals, end_all, synapse
from tests.support.scripted_peer import Authority, make_authority

__all__ = ["annals", "synapse"]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The certificate authority that the scripted peers' certificates are of."""
    folder: Path = tmp_path_factory.mktemp("authority")
    return make_authority(folder)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """After the last test of this folder its servers end."""
    if nextitem is None or Path(__file__).parent not in nextitem.path.parents:
        end_all()
