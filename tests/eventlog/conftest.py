"""The suite's assertions stand in a module that is no test: pytest explains their failures too."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.support.log_contract")
