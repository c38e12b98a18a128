"""What every actor asks of its node, as Ray's bundles, checked against what the nodes have before anything starts."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hamdist.cluster.session import Node
from hamdist.errors import ConfigError, Problem
from hamdist.network.placement import Placement, Request

CPU, GPU = "CPU", "GPU"
SLIVER = 0.001  # of the resource that every node has by its address: enough to be placed there


@dataclass(frozen=True)
class Bundle:
    """resources: amounts by name, never empty.  labels: what the node must bear."""

    resources: Mapping[str, float]
    labels: Mapping[str, str]

    def device(self, wanted: str) -> str:
        """What `auto` means for an actor that gets this."""
        if wanted != "auto":
            return wanted
        return "cuda" if self.resources.get(GPU) else "cpu"

    def options(self) -> dict[str, Any]:
        """As an actor's options."""
        others = {name: amount for name, amount in self.resources.items() if name not in (CPU, GPU)}
        return {
            "num_cpus": self.resources.get(CPU, 0.0),
            "num_gpus": self.resources.get(GPU, 0.0),
            "resources": others,
        }


def device_count(nodes: Sequence[Node], device: str, threads: int) -> int:
    """How many actors `auto` means: the GPUs of all nodes where there are any and they are wanted, else the cores."""
    gpus = int(_total(nodes, GPU))
    if gpus and device != "cpu":
        return gpus
    return max(1, int(_total(nodes, CPU)) // threads)


def bundles_of(
    placement: Placement, nodes: Sequence[Node], device: str, threads: int, stream_host: str
) -> list[Bundle]:
    """A bundle for every actor, the stream's last: it lives where the run was started, and asks for nothing more.

    An actor asks for a core per thread and, where there are GPUs, for one; for a share where there are not enough.
    Raises ConfigError naming what no node has.
    """
    count = len(placement.actors)
    cpus = _share(nodes, CPU, count, float(threads))
    gpus = _share(nodes, GPU, count, 1.0)
    bundles = [
        _bundle(request, cpus, 0.0 if (request.device or device) == "cpu" else gpus)
        for request in placement.requests
    ]
    problems = [
        problem
        for names, bundle in zip(placement.actors, bundles, strict=True)
        for problem in _lacking(names, bundle, nodes)
    ] or _lacking_in_all(bundles, nodes)
    if problems:
        raise ConfigError(*problems)
    return [*bundles, Bundle({f"node:{stream_host}": SLIVER}, {})]


def _bundle(request: Request, cpus: float, gpus: float) -> Bundle:
    amounts = {
        CPU: cpus if request.cpus is None else request.cpus,
        GPU: gpus if request.gpus is None else request.gpus,
        **request.resources,
    }
    return Bundle({name: amount for name, amount in amounts.items() if amount}, dict(request.labels))


def _share(nodes: Sequence[Node], name: str, count: int, wish: float) -> float:
    """What an actor that asks for nothing gets: its wish if all `count` wishes fit, else what fits on any node."""
    amounts = [amount for node in nodes if (amount := node.resources.get(name, 0.0))]
    if not amounts:
        return 0.0
    if sum(math.floor(amount / wish) for amount in amounts) >= count:
        return wish
    return min(wish, max(0.01, math.floor(100 * min(amounts) / count) / 100))


def _lacking(names: Sequence[str], bundle: Bundle, nodes: Sequence[Node]) -> list[Problem]:
    """What one actor asks for and no single node has."""
    if any(_fits(bundle, node) for node in nodes):
        return []
    asked = ", ".join(f"{name}: {amount:g}" for name, amount in bundle.resources.items())
    labels = "".join(f", label {name}={value}" for name, value in bundle.labels.items())
    return [
        Problem(
            "placement.requests",
            f"the actor of {', '.join(names)} asks for {asked}{labels}, which no node has; the nodes have "
            f"{'; '.join(map(_described, nodes))}",
        )
    ]


def _lacking_in_all(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> list[Problem]:
    """What all actors ask for together and all nodes together do not have."""
    names = sorted({name for bundle in bundles for name in bundle.resources})
    asked = {name: sum(bundle.resources.get(name, 0.0) for bundle in bundles) for name in names}
    return [
        Problem(
            "placement.actors",
            f"{len(bundles)} actors ask for {amount:g} {name} in all, and the nodes have {_total(nodes, name):g}: "
            "ask for less, use fewer actors, or add nodes",
        )
        for name, amount in asked.items()
        if amount > _total(nodes, name) + 1e-9
    ]


def _fits(bundle: Bundle, node: Node) -> bool:
    """Whether a node has it all; conditions on labels, such as in(a, b), are left to Ray."""
    amounts = all(node.resources.get(name, 0.0) >= amount - 1e-9 for name, amount in bundle.resources.items())
    plain = {name: value for name, value in bundle.labels.items() if re.fullmatch(r"[\w.-]+", value)}
    return amounts and all(node.labels.get(name) == value for name, value in plain.items())


def _described(node: Node) -> str:
    resources = {
        name: amount
        for name, amount in node.resources.items()
        if not name.startswith(("node:", "object_store_memory", "memory", "accelerator_type"))
    }
    labels = {name: value for name, value in node.labels.items() if not name.startswith("ray.io/")}
    has = ", ".join(
        [f"{name}: {amount:g}" for name, amount in resources.items()]
        + [f"label {name}={value}" for name, value in labels.items()]
    )
    return f"{node.host}: {has or 'nothing'}"


def _total(nodes: Sequence[Node], name: str) -> float:
    return sum(node.resources.get(name, 0.0) for node in nodes)
