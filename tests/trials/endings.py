"""Whole runs that end before their time, with their driver or all of Ray, and go on by `--resume auto`."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from trials.runs import BATCH, NEVER, TWO, digits, launch, same, summary_of

from hamdist.cluster.ray_processes import processes

TICKS = 6000
SECONDS = 600.0  # for a run, at most
ENDINGS = ("driver", "gcs_server", "raylet", "SIGTERM", "SIGINT")


def trials(count: int, seed: int, folder: Path) -> int:
    """How many did not come to the end of the undisturbed run. Every kind has its turn, at a random moment."""
    reference = folder / "resumes-undisturbed"
    launch(digits(TWO, TICKS * BATCH, checkpoint=NEVER), reference).wait(SECONDS)
    learning, chance, wrong = summary_of(reference)["phases"]["learning"], random.Random(seed), 0
    for trial in range(count):
        kind, out = ENDINGS[trial % len(ENDINGS)], folder / f"resumes-{trial}"
        began = time.perf_counter()
        code, ended = _broken(kind, chance.uniform(0.0, learning), out)
        again = _to_the_end(out)
        differing = same(out, reference)
        wrong += bool(differing)
        told = f"exit {code} after {ended:.1f} s, then {again}"
        print(
            f"{trial}: {kind}: {told}, {time.perf_counter() - began:.1f} s, {differing or 'the same bits'}",
            flush=True,
        )
    print(f"{count} endings, {wrong} not as the undisturbed run")
    return wrong


def _broken(kind: str, seconds: float, out: Path) -> tuple[int, float]:
    """A run that something ends so many seconds after its first line of metrics; its exit code, and how long it
    took to end.
    """
    running = goes_on(out, TICKS)
    deadline = time.monotonic() + SECONDS
    while running.poll() is None and not _lines(out) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(seconds)
    began = time.perf_counter()
    if running.poll() is None:
        end(running, kind)
    return running.wait(SECONDS), time.perf_counter() - began


def end(running: "subprocess.Popen[bytes]", kind: str) -> None:
    """kind: what ends: the driver, or a process of Ray's that it has started; or the signal to the whole group."""
    if kind.startswith("SIG"):
        os.killpg(running.pid, signal.Signals[kind])
        return
    killed = [running.pid] if kind == "driver" else _children(running.pid, kind)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)


def _to_the_end(out: Path) -> str:
    """Goes on until there is no more; the exit codes."""
    codes = []
    while len(codes) < 5 and (not codes or codes[-1]):
        codes.append(goes_on(out, TICKS).wait(SECONDS))
    return f"exit {', '.join(map(str, codes))}"


def goes_on(out: Path, ticks: int, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Begins, or goes on."""
    config = digits(TWO, ticks * BATCH, checkpoint={"every_ticks": 50})
    return launch(config, out, "--resume", "auto", environment=environment, said=out.with_suffix(".said"))


def _lines(out: Path) -> bool:
    metrics = out / "metrics.jsonl"
    return metrics.exists() and metrics.stat().st_size > 0


def _children(parent: int, name: str) -> list[int]:
    return [each.pid for each in processes() if each.parent == parent and each.name == name]
