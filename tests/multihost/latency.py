"""What delays buy where hosts are far apart: `python tests/multihost/latency.py`, as root on Linux.

Digits over four layers, two on each of two hosts, fully local but for the delay of the edge between the hosts. A host
needs what the other one sent `delay` ticks ago, but sends its own signal before it waits for a costate: 2 delay + 1
ticks fit into a round trip, and no more. Prints a markdown table. About three minutes.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import yaml
from drives import run_on_ray
from hosts import Hosts, hosts, missing
from nodes import Cluster, cluster

DELAYS = (1, 2, 4, 8, 16)
LAYERS = {"a": ["embed", "block0"], "b": ["block1", "head"]}
LINEAR = {"type": "Linear", "in_features": 64, "out_features": 64}
CONFIG = {
    "name": "latency",
    "stream": {"source": "digits", "batch_size": 16},
    "network": {
        "loss": "cross_entropy",
        "layers": [
            {"name": "embed", "modules": [LINEAR, {"type": "Tanh"}]},
            {"name": "block", "repeat": 2, "residual": True, "modules": [LINEAR, {"type": "Tanh"}]},
            {"name": "head", "modules": [{**LINEAR, "out_features": 10}]},
        ],
    },
    "locality": {"mode": "local", "pairing": "stashed"},
    "learning": {"beta": 0.1},
}


def speeds(bed: Hosts, ray: Cluster, delay: int, seconds: float, ticks: int) -> Iterator[float]:
    """Ticks a second without latency, and with."""
    folder = bed["a"].folder.parent / "runs"
    folder.mkdir(exist_ok=True)
    config = folder / "latency.yaml"
    config.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    overrides = [f"locality.delays={{block0->block1: {delay}}}", f"stream.samples={16 * ticks}"]
    for name, far in (("near", nullcontext()), ("far", bed.latency(seconds))):
        with far:
            summary = run_on_ray(
                bed["a"], ray, str(config), Path(folder, f"{name}-{delay}"), LAYERS, overrides
            )
        yield summary["ticks_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--milliseconds", type=float, default=25.0, help="latency, each way")
    parser.add_argument("--ticks", type=int, default=800)
    options = parser.parse_args()
    if reason := missing():
        sys.exit(f"skipped: {reason}")
    seconds = options.milliseconds / 1e3
    print(
        f"| delay | ticks/s, no latency | ticks/s, {options.milliseconds:g} ms each way | limit | of that |"
    )
    print("|---|---|---|---|---|")
    with hosts("a", "b") as bed, cluster(bed) as ray:
        for delay in DELAYS:
            near, far = speeds(bed, ray, delay, seconds, options.ticks)
            limit = min(near, (2 * delay + 1) / (2 * seconds))
            print(f"| {delay} | {near:.0f} | {far:.1f} | {limit:.0f} | {far / limit:.0%} |", flush=True)


if __name__ == "__main__":
    main()
