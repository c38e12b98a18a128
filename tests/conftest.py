"""What tests of every floor share."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hamdist.engine import build
from hamdist.engine.fused.eligibility import Fitter

pytest_plugins = ["support.limits"]
pytest.register_assert_rewrite("support")

# pytest listens to every logger that does not propagate, and torch writes a stack into this one at every operation that
# it traces, if anybody listens: an eighth of the time of a trace.
logging.getLogger("torch.__trace").propagate = True

# Ray's workers are as urgent as the tests that wait for them: at its own priority for them they get what others leave.
os.environ.setdefault("RAY_worker_niceness", "0")


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
