"""What tests of every floor share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hamdist.engine import build
from hamdist.engine.fused.eligibility import Fitter

pytest_plugins = ["support.limits"]
pytest.register_assert_rewrite("support")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the current one while the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def one_fitter() -> Iterator[None]:
    """What is found of a layer's form is known to all networks of a file: to find it takes seconds."""
    fitter = Fitter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "Fitter", lambda: fitter)
        yield
