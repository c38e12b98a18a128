"""hamdist between two hosts: `python tests/multihost/run.py`, as root on Linux, with the Python that has hamdist.

The hosts are namespaces of this machine, each with a Ray node. Digits is learnt over actors on both, without and with
latency between them, and in one process; the weights must be the same to the last bit, and at last also where a host is
lost midway. Prints a line for each check and ends with status 1 if one failed, 0 if none did, or if this machine cannot
do it, which is then said. About a minute.
"""

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from drives import losing, run_inline, run_on_ray
from hosts import Hosts, hosts, missing
from nodes import Cluster, cluster

from hamdist.runs.record import SUMMARY, load_weights

LATENCY = 0.025  # seconds, each way
LAYERS = {"a": ["embed", "block0", "block1"], "b": ["block2", "block3", "head"]}
SHORT = ["stream.samples=960"]
LONG = ["stream.samples=32000", "checkpoint.every_seconds=0.5", "placement.heartbeat_seconds=2"]
PROBE = str(Path(__file__).with_name("probe.py"))


class Checks:
    """What was checked, and how it went."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def check(self, name: str, body: Callable[[], Any]) -> Any:
        """Passes if `body` returns, and returns that; None if it raises. What it saw is printed."""
        try:
            seen, verdict = body(), "PASSED"
            self.passed += 1
        except Exception as error:
            seen, verdict = None, f"FAILED {_told(error)}"
            self.failed += 1
        print(name, verdict, "" if seen is None else f"({seen})", flush=True)
        return seen


class Trial:
    """The bed, the cluster on it, and where the runs go: <folder>/<name of the run>."""

    def __init__(self, bed: Hosts, ray: Cluster) -> None:
        self.bed, self.ray, self.host = bed, ray, bed["a"]
        self.folder = self.host.folder.parent / "runs"

    def probe(self) -> dict[str, Any]:
        output = self.host.must([sys.executable, PROBE, self.ray.address, "a", "b"], 60, self.ray.env)
        return json.loads(output.splitlines()[-1])

    def labels(self) -> str:
        probed = self.probe()
        assert probed["addresses"] == [self.bed["a"].address, self.bed["b"].address], probed
        return f"round trip of 256 bytes over ZeroMQ: {probed['round_trip_ms']:.2f} ms"

    def latency(self) -> str:
        with self.bed.latency(LATENCY):
            trip = self.probe()["round_trip_ms"]
        assert trip >= 2e3 * LATENCY, f"{trip} ms"
        return f"{trip:.2f} ms with {1e3 * LATENCY:g} ms each way"

    def one_process(self) -> str:
        return _shown(run_inline(self.host, "digits", self.folder / "inline", SHORT))

    def two_hosts(self) -> str:
        summary = run_on_ray(self.host, self.ray, "digits", self.folder / "near", LAYERS, SHORT)
        where = [place["host"] for place in summary["places"]]
        assert where == [self.bed[name].address for name in LAYERS], where
        return _shown(summary)

    def far_hosts(self) -> str:
        """With a delay of 1 at most three ticks fit into a round trip: who is quicker has not gone that way."""
        with self.bed.latency(LATENCY):
            summary = run_on_ray(self.host, self.ray, "digits", self.folder / "far", LAYERS, SHORT)
        assert summary["ticks_per_second"] < 3 / (2 * LATENCY), summary["ticks_per_second"]
        return _shown(summary)

    def long_in_one_process(self) -> str:
        never = [*LONG, "checkpoint.when=never"]
        return _shown(run_inline(self.host, "digits", self.folder / "long-inline", never))

    def lost_host(self) -> str:
        """The one without the driver; its part goes on on the other one."""
        out = self.folder / "long"
        losing(self.bed["b"], out)
        summary = run_on_ray(self.host, self.ray, "digits", out, LAYERS, LONG)
        (restart,) = summary["restarts"]
        assert restart["lost"] == ["actor 1 (block2, block3 and head)"], restart
        assert {place["host"] for place in summary["places"]} == {self.bed["a"].address}, summary["places"]
        return f"from tick {restart['tick']} on, after {restart['seconds']['all']:.1f} s"

    def seen_once(self, name: str) -> str:
        summary = json.loads((self.folder / name / SUMMARY).read_text(encoding="utf-8"))
        assert summary["samples_seen_once"] is True, summary
        return f"{summary['samples']} samples, {summary['actors']} actors"

    def same_bits(self, name: str, other: str = "inline") -> str:
        ours, theirs = load_weights(self.folder / name), load_weights(self.folder / other)
        assert ours.keys() == theirs.keys()
        different = [key for key in theirs if not torch.equal(ours[key], theirs[key])]
        assert not different, f"different: {different}"
        return f"{len(theirs)} tensors"


def check_all(trial: Trial, check: Callable[[str, Callable[[], Any]], Any]) -> None:
    check("bed: actors are on the hosts of their labels", trial.labels)
    check("bed: latency is added each way", trial.latency)
    check("digits: one process", trial.one_process)
    check("digits: two hosts", trial.two_hosts)
    check("digits: two hosts, each sample seen once", lambda: trial.seen_once("near"))
    check("digits: two hosts, weights bitwise those of one process", lambda: trial.same_bits("near"))
    check("digits: two hosts with latency", trial.far_hosts)
    check("digits: two hosts with latency, each sample seen once", lambda: trial.seen_once("far"))
    check("digits: two hosts with latency, weights bitwise", lambda: trial.same_bits("far"))
    check("digits: longer, one process", trial.long_in_one_process)
    check("digits: one of two hosts is lost", trial.lost_host)
    check("digits: one host lost, each sample seen once", lambda: trial.seen_once("long"))
    check("digits: one host lost, weights bitwise", lambda: trial.same_bits("long", "long-inline"))


def main() -> int:
    if reason := missing():
        print(f"skipped: {reason}")
        return 0
    checks = Checks()
    with ExitStack() as stack:
        bed = stack.enter_context(hosts("a", "b"))
        ray = checks.check("bed: a Ray node on each host", lambda: stack.enter_context(cluster(bed)))
        if ray is not None:
            check_all(Trial(bed, ray), checks.check)
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


def _shown(summary: dict[str, Any]) -> str:
    return f"{summary['ticks']} ticks, {summary['ticks_per_second']:.1f} a second"


def _told(error: Exception) -> str:
    """The error, and what a process that took too long had printed."""
    output = getattr(error, "output", None) or b""
    return f"{type(error).__name__}: {error}\n{output.decode(errors='replace')}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
