"""A run over actors that ends before its time, as a whole, goes on by `--resume auto` as if nothing had been."""

import subprocess
import time
from pathlib import Path

import pytest
from support.patience import patient
from trials.endings import end, goes_on
from trials.runs import BATCH, NEVER, PREDICTIONS, TWO, digits, same

from hamdist import run
from hamdist.runs.checkpoints import CHECKPOINTS, ticks_in
from hamdist.runs.folder import Folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # it starts Ray three times
TICKS = 800


def newest(out: Path) -> int:
    """The tick of the newest checkpoint; −1 where there is none."""
    return max(ticks_in(Folder(out / CHECKPOINTS)), default=-1)


def broken_off(out: Path, kind: str) -> tuple[int, int]:
    """The run goes on until it has written a checkpoint, and is ended then; its exit code, and the tick of the
    checkpoint.
    """
    before, deadline = newest(out), time.monotonic() + patient(120)
    running = goes_on(out, TICKS)
    while newest(out) <= before and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    end(running, kind)
    return exit_code(running), newest(out)


def exit_code(running: "subprocess.Popen[bytes]") -> int:
    """It is not there afterwards."""
    with running:
        try:
            return running.wait(patient(120))
        finally:
            running.kill()


def test_after_a_killed_driver_and_a_sigterm_a_run_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    reference, out = tmp_path / "undisturbed", tmp_path / "out"
    undisturbed = digits(TWO, TICKS * BATCH, checkpoint=NEVER)
    run(
        undisturbed, ["placement.runtime=inline"], out=str(reference), predictions=str(tmp_path / "predicted")
    )
    (tmp_path / "predicted").rename(reference / PREDICTIONS)
    killed, first = broken_off(out, "driver")
    ended, second = broken_off(out, "SIGTERM")
    assert (killed, ended) == (-9, 143)
    assert 0 < first < second < TICKS
    assert exit_code(goes_on(out, TICKS)) == 0
    assert same(out, reference) == []
    assert exit_code(goes_on(out, TICKS)) == 0  # it is finished, and stays as it is
    assert same(out, reference) == []
