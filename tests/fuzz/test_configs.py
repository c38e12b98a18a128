"""A thousand configs with something changed: each is sound, or has clear mistakes, soon; nothing else happens.

The seeds are fixed. A limit of 5 s a config, of the processor's time, is against hanging.
"""

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support.mutated_configs import mutants
from support.patience import patient

from hamdist import check, run
from hamdist.errors import RunError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_fitter")]


@contextmanager
def soon(what: Any) -> Iterator[None]:
    """Fails where what is done within takes more than 5 s of the processor's time."""

    def late(*_: Any) -> None:
        pytest.fail(f"takes longer than 5 s: {what!r}")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, patient(5))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def test_changed_configs_are_sound_or_have_clear_mistakes(folder: Path) -> None:
    check("digits")  # imports are slow, once
    found = []
    for text in mutants(1000):
        Path("run.yaml").write_bytes(
            text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        )
        with soon(text), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(check("run.yaml"))
        assert all(line and "Traceback" not in line for line in found[-1])
    assert sum(not problems for problems in found) > 50
    assert list(folder.iterdir()) == [folder / "run.yaml"]


def test_sound_ones_run(folder: Path) -> None:
    """Thirty of them, for three ticks: they end, or fail with a clear error, as those do that run away."""
    short = ["stream.samples=3", "stream.batch_size=1", "stream.hold=1", "placement.runtime=inline"]
    ran = 0
    for text in mutants(1000, seed=1):
        Path("run.yaml").write_bytes(
            text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        )
        with soon(text), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if check("run.yaml", short):
                continue
            with suppress(RunError):
                assert run("run.yaml", short, out=f"out{ran}")["samples"] == 3
        ran += 1
        if ran == 30:
            break
    assert ran == 30
