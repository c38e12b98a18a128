"""`python tests/signal_grid.py inline|ray SECONDS …`: a run is sent signals so long after its start; what came of it.

Nobody collects it: it measures time. A line for every trial: the exit status and the seconds until it, what the command
said last, what the run directory holds, and what was left behind.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import yaml

MARK = "HAMDIST_TEST_MARK"
LIMIT_SECONDS = 60.0
INT, TERM = signal.SIGINT, signal.SIGTERM
SENT = {
    "TERM": (os.kill, [TERM]),
    "TERM to the group": (os.killpg, [TERM]),
    "INT to the group": (os.killpg, [INT]),
    "INT twice": (os.kill, [INT, INT]),
}
LAYERS = [
    {"name": "a", "modules": [{"type": "Linear", "in_features": 2, "out_features": 4}, {"type": "Tanh"}]},
    {"name": "b", "modules": [{"type": "Linear", "in_features": 4, "out_features": 2}]},
]


def endless():
    """A sample every few milliseconds."""
    for k in itertools.count():
        time.sleep(0.003)
        yield [float(k % 5), 1.0], k % 2


def config(runtime: str) -> dict[str, object]:
    return {
        "name": "small",
        "stream": {"source": "iterable", "factory": "signal_grid:endless"},
        "network": {"loss": "cross_entropy", "layers": LAYERS},
        "placement": {"runtime": runtime} | ({"actors": "per-layer"} if runtime == "ray" else {}),
    }


def left(mark: str) -> list[str]:
    """The command lines of living processes with the mark."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[-60:])
        except OSError:
            continue
    return found


def trial(runtime: str, delay: float, kind: str) -> str:
    """What came of one run."""
    send, numbers = SENT[kind]
    with tempfile.TemporaryDirectory(prefix="hd-") as folder:
        mark = uuid.uuid4().hex
        Path(folder, "run.yaml").write_text(yaml.safe_dump(config(runtime)))
        search = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        extra = {MARK: mark, "TMPDIR": folder, "RAY_TMPDIR": folder, "PYTHONPATH": search}
        line = [sys.executable, "-m", "hamdist", "run", "run.yaml", "--out", "out"]
        process = subprocess.Popen(
            line, cwd=folder, env=os.environ | extra, stdout=-1, stderr=-1, text=True, start_new_session=True
        )
        time.sleep(delay)
        sent = time.monotonic()
        for number in numbers:
            send(process.pid, number)
            time.sleep(0.3)
        try:
            _, errors = process.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            _, errors = process.communicate()
            errors += "HANGS"
        seconds = time.monotonic() - sent
        faults = [f"LEFT {each}" for each in left(mark)]
        faults += [f"FOLDER {path.name}" for path in Path(folder).glob("hamdist-*")]
        faults += ["TRACEBACK"] if "Traceback" in errors or "***" in errors else []
        said = errors.strip().splitlines()[-1:]
        return f"{process.returncode:4d} {seconds:5.1f} s {said} {kept(Path(folder, 'out'))} {faults or ''}"


def kept(directory: Path) -> str:
    """What a run directory holds, in short."""
    try:
        summary = json.loads((directory / "summary.json").read_text())
    except FileNotFoundError:
        return "no summary" if directory.exists() else "no run"
    weights = sorted(file.stem for file in directory.glob("weights/*"))
    return f"{summary['status']} {summary['samples']} {summary['samples_seen_once']} {weights}"


def main() -> None:
    runtime, delays = sys.argv[1], [float(each) for each in sys.argv[2:]]
    for delay, kind in itertools.product(delays, SENT):
        print(f"{runtime} {delay:5.2f} s {kind:18s} {trial(runtime, delay, kind)}", flush=True)


if __name__ == "__main__":
    main()
