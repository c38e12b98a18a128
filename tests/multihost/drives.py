"""`hamdist run` on a host of the bed, in one process or over the cluster that the host belongs to."""

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hosts import Host
from nodes import Cluster

PATIENCE = float(os.environ.get("HAMDIST_TEST_PATIENCE", "1"))  # as of other tests
SECONDS = 90 * PATIENCE  # for a run, from its start to its end
GLANCE_SECONDS = 0.02


def run_inline(host: Host, config: str, out: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The summary. Raises RuntimeError with what it printed if it fails, TimeoutExpired."""
    return _run(host, [config, "placement.runtime=inline", *overrides, "--out", str(out)], out, {})


def losing(lost: Host, out: Path) -> threading.Thread:
    """Loses a host once the run that begins now has written its first line of metrics."""

    def lose() -> None:
        deadline, metrics = time.monotonic() + SECONDS, out / "metrics.jsonl"
        while time.monotonic() < deadline:
            if metrics.exists() and metrics.stat().st_size:
                lost.lose()
                return
            time.sleep(GLANCE_SECONDS)

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    return thread


def run_on_ray(
    host: Host,
    cluster: Cluster,
    config: str,
    out: Path,
    layers: dict[str, list[str]],
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """As run_inline; `layers`: by the name of the host that their actor lives on."""
    actors = list(layers.values())
    requests = {hosted[0]: {"labels": {"host": name}} for name, hosted in layers.items()}
    placement = {"runtime": "ray", "address": cluster.address, "actors": actors, "requests": requests}
    placed = [f"placement.{key}={json.dumps(value)}" for key, value in placement.items()]
    return _run(host, [config, *placed, *overrides, "--out", str(out)], out, cluster.env)


def _run(host: Host, arguments: Sequence[str], out: Path, env: dict[str, str]) -> dict[str, Any]:
    host.must([sys.executable, "-m", "hamdist", "run", *arguments], SECONDS, env)
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))
