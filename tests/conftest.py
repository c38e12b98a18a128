"""What tests of every floor share."""

from pathlib import Path

import pytest

pytest_plugins = ["support.limits"]
pytest.register_assert_rewrite("support")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the current one while the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
