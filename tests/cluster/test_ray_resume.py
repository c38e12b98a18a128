"""A run over actors that ends before its time, as a whole, goes on by `--resume auto` as if nothing had been."""

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.marked_processes import LOOPBACK, listening, marked, marked_environment
from support.patience import patient
from trials.endings import end, goes_on
from trials.runs import BATCH, LAYERS, NEVER, PREDICTIONS, TWO, digits, same, summary_of

from hamdist import run
from hamdist.runs.checkpoints import CHECKPOINTS, ticks_in
from hamdist.runs.folder import Folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # it starts Ray three times
TICKS = 800


def newest(out: Path) -> int:
    """The tick of the newest checkpoint; −1 where there is none."""
    return max(ticks_in(Folder(out / CHECKPOINTS)), default=-1)


def broken_off(out: Path, kind: str, environment: Mapping[str, str]) -> tuple[int, int]:
    """The run goes on until it has written a checkpoint, and is ended then; its exit code, and the tick of the
    checkpoint. Meanwhile its processes listen on this machine only, and none is left.
    """
    before, deadline = newest(out), time.monotonic() + patient(120)
    running = goes_on(out, TICKS, environment)
    while newest(out) <= before and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    heard = listening(marked(environment))
    end(running, kind)
    code = exit_code(running)
    assert heard <= LOOPBACK
    return code, newest(out)


def exit_code(running: "subprocess.Popen[bytes]") -> int:
    """It is not there afterwards."""
    with running:
        try:
            return running.wait(patient(120))
        finally:
            running.kill()


def test_after_a_killed_driver_and_a_sigterm_a_run_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    """SIGTERM as `timeout` and batch systems send it: to the whole group, in which Ray's processes are not."""
    reference, out, predicted = tmp_path / "undisturbed", tmp_path / "out", tmp_path / "predicted"
    config = digits(TWO, TICKS * BATCH, checkpoint=NEVER)
    run(config, ["placement.runtime=inline"], out=str(reference), predictions=str(predicted))
    predicted.rename(reference / PREDICTIONS)
    with marked_environment() as environment:
        killed, first = broken_off(out, "driver", environment)
        ended, second = broken_off(out, "SIGTERM", environment)
        assert (killed, ended) == (-9, 143)
        assert 0 < first < second < TICKS
        assert marked(environment) == {}
        assert list(Path(environment["TMPDIR"]).glob("hamdist-*")) == []
        *_, last = out.with_suffix(".said").read_text().splitlines()
        assert last == (
            f"terminated; the weights of all layers are in {out}; go on from tick {second} with: "
            f"hamdist run --resume {out}"
        )
        told = summary_of(out)
        assert (told["status"], told["samples_seen_once"]) == ("interrupted", True)
        assert {file.stem for file in (out / "weights").iterdir()} == {*LAYERS}
        assert exit_code(goes_on(out, TICKS, environment)) == 0
        assert same(out, reference) == []
        finished = json.dumps(summary_of(out))
        assert exit_code(goes_on(out, TICKS, environment)) == 0  # without Ray: it stays as it is
        assert json.dumps(summary_of(out)) == finished
