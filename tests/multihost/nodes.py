"""A Ray cluster with a node on each host, with token authentication, as `ray start` makes it on real machines."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hosts import Host, Hosts

PORT = 6379
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
CPUS = 2  # of each node


class Cluster(NamedTuple):
    """address: host:port.  env: what a process needs in its environment to be let in."""

    address: str
    env: dict[str, str]

    def __str__(self) -> str:
        return self.address


@contextmanager
def cluster(bed: Hosts) -> Iterator[Cluster]:
    """A node on each host, which bears the label host=<its name>; the first is the head."""
    head, *others = bed.named.values()
    token = head.folder.parent / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    env = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    address = f"{head.address}:{PORT}"
    head.must(_start(head, "--head", f"--port={PORT}", "--include-dashboard=false"), 60, env)
    for other in others:
        other.must(_start(other, f"--address={address}"), 60, env)
    yield Cluster(address, env)


def _start(host: Host, *options: str) -> list[str]:
    own = [f"--node-ip-address={host.address}", f"--temp-dir={host.folder}", f"--labels=host={host.name}"]
    return [*RAY, "start", *own, f"--num-cpus={CPUS}", "--disable-usage-stats", *options]
