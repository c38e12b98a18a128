"""Processes apart from our group, with one that stands for a daemon of Ray, which is forked as Ray forks its own."""

import os
import signal
import subprocess
import sys

import pytest
from support.patience import patient

from hamdist.cluster import ray_processes as under_test
from hamdist.cluster.ray_processes import RayProcesses
from hamdist.signal_mask import signals_wait

pytestmark = pytest.mark.slow
WAITS = "import sys; sys.stdout.write(str(len(sys.stdin.read())))"


def waiting() -> subprocess.Popen[bytes]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", WAITS], preexec_fn=int, **pipes)


def test_what_is_started_apart_is_found_missed_and_reaped(monkeypatch: pytest.MonkeyPatch):
    """It hears signals though we were deaf when it was forked."""
    monkeypatch.setattr(under_test, "NEEDED", {"python": "the daemon"})
    monkeypatch.setattr(under_test, "ENDED_SECONDS", 0.0)
    with waiting() as ours:
        apart = RayProcesses()
        with signals_wait(), apart.apart():
            one, other = waiting(), waiting()
        monkeypatch.setattr(apart, "daemons", dict.fromkeys(apart.daemons, "python"))
        assert set(apart.daemons) == {one.pid, other.pid}
        assert [os.getsid(each.pid) for each in (one, other, ours)] == [one.pid, other.pid, os.getsid(0)]
        assert apart.lost() == ""
        one.terminate()
        os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
        assert apart.lost() == "the daemon"
        apart.reap()
        for each in (one, other):
            each.communicate(timeout=patient(60))
        assert [one.returncode, other.returncode] == [-signal.SIGTERM, -signal.SIGKILL]
        assert ours.communicate(b"four", patient(60))[0] == b"4"
