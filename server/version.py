"""This release's version, as facts, metrics and /_matrix/federation/v1/version tell it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("annals")
except PackageNotFoundError:  # run from a checkout that is not installed
    VERSION = "0"
