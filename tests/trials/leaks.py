"""What runs leave behind, and whether the memory and the open files of their processes stay as they are."""

import os
import random
import signal
import subprocess
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path

from trials.long_run import actors_of
from trials.runs import BATCH, TWO, digits, launch, same

from hamdist.cluster.ray_processes import processes

TICKS = 3000
MARK = "HAMDIST_TRIAL_MARK"
FOLDERS = ("hamdist-*", "ray-*")
STEPS = 12  # lines of a table
FLAT = 1.05  # the memory of the second half, beside that of the first, at most


def trials(count: int, seed: int, folder: Path) -> int:
    """Runs with a kill each, one after another; how many left something, or ended with other bits."""
    chance, wrong = random.Random(seed), 0
    for trial in range(count):
        out, mark = folder / f"leaks-{trial}", uuid.uuid4().hex
        with tempfile.TemporaryDirectory(prefix="hd-", dir="/tmp") as own:
            before = shared_memory()
            environment = {MARK: mark, "TMPDIR": own, "RAY_TMPDIR": own}
            config = digits(TWO, TICKS * BATCH, checkpoint={"every_seconds": 0.5})
            running = launch(config, out, environment=environment)
            _kill_when_it_learns(running, out, chance)
            code = running.wait()
            left = [*_marked(mark), *sorted(shared_memory() - before), *_folders(Path(own))]
        differing = same(out, folder / "leaks-0")
        wrong += bool(code or left or differing)
        print(f"{trial}: exit {code}, left {left or 'nothing'}, {differing or 'the same bits'}", flush=True)
    print(f"{count} runs, {wrong} left something, or ended otherwise")
    return wrong


def _kill_when_it_learns(running: "subprocess.Popen[bytes]", out: Path, chance: random.Random) -> None:
    metrics = out / "metrics.jsonl"
    while running.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        if actors := actors_of(running.pid):
            os.kill(chance.choice(actors), signal.SIGKILL)


def _marked(mark: str) -> list[str]:
    """Living processes with the mark."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:60])
    return found


def shared_memory() -> set[str]:
    """Files in memory that processes share."""
    return {path.name for path in Path("/dev/shm").iterdir()}


def _folders(own: Path) -> list[str]:
    """What lies in a folder for temporary files, but for sessions of Ray and a cache of torch."""
    return [path.name for path in own.iterdir() if not path.name.startswith(("ray", "torchinductor_"))]


def steady(minutes: float, folder: Path) -> int:
    """Memory and open files of every process of a run with a cut every two seconds; 1 where memory grows."""
    out, began = folder / "steady", time.monotonic()
    endless = digits(TWO, 10**9, checkpoint={"every_seconds": 2}, metrics_every=100_000)
    running = launch(endless, out)
    seen: list[dict[str, tuple[int, int]]] = []
    while time.monotonic() - began < minutes * 60 and running.poll() is None:
        time.sleep(minutes * 60 / STEPS)
        seen.append(_held(running.pid))
        held = "; ".join(f"{name} {size} MiB, {files} files" for name, (size, files) in seen[-1].items())
        print(f"{time.monotonic() - began:.0f} s: {held}", flush=True)
    os.killpg(running.pid, signal.SIGTERM)
    code = running.wait()
    half = len(seen) // 2
    grown = [name for name in seen[-1] if _grows([each[name] for each in seen[half // 2 :] if name in each])]
    print(f"exit {code}; {'grows: ' + ', '.join(grown) if grown else 'flat'}")
    return int(bool(grown) or code != 128 + signal.SIGTERM)


def _grows(held: list[tuple[int, int]]) -> bool:
    """Whether the last have more than the first, once all is warm."""
    (memory, files), (more, others) = held[0], held[-1]
    return more > FLAT * memory or others > files + 2


def _held(driver: int) -> dict[str, tuple[int, int]]:
    """MiB and open files, by process."""
    actors, known = actors_of(driver), {each.pid: each for each in processes()}
    wanted = {"driver": driver, **{f"actor {pid}": pid for pid in actors}}
    daemons = (pid for pid, each in known.items() if each.parent == driver)
    wanted |= {known[pid].name: pid for pid in daemons if known[pid].name in ("raylet", "gcs_server")}
    return {name: (_memory(pid), len(os.listdir(f"/proc/{pid}/fd"))) for name, pid in wanted.items()}


def _memory(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20
