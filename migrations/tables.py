"""Finding the tables that the projections declare."""

from __future__ import annotations

import importlib
import pkgutil

from sqlalchemy import MetaData

import annals.projectors
from annals.projectors.metadata import METADATA


def all_tables() -> MetaData:
    """The shared metadata, once every module named `tables` under projectors/ has been imported."""
    for module in pkgutil.walk_packages(annals.projectors.__path__, "annals.projectors."):
        if module.name.rpartition(".")[2] == "tables":
            importlib.import_module(module.name)
    return METADATA
