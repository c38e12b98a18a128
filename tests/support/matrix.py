"""E9: whatever the placement and the links, a run over actors gives the bits of the run in one process.

The bits are those of weights, costates, states, buffers, moments and counts of every layer, and of all metrics.
"""

import random
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from support.actors import WIRINGS, Ensemble
from support.comparing import changed, everything
from support.inline import learning, run_through
from support.networks import network_of
from support.timelines import together
from torch import nn

from hamdist.cluster.worker import Outcome
from hamdist.engine.build import program
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.spec import PLAIN, STACKED, Execution
from hamdist.network.learning import AverageReach
from hamdist.network.locality import Locality
from hamdist.network.network import Network
from hamdist.physics.modules import Coupling, Residual

WIDTH = 14  # not a multiple of any vector's length
LAYERS = ("embed", "a", "b", "c", "head")
PLACES: dict[str, dict[str, Any]] = {
    "local": {"mode": "local"},
    "groups": {"mode": "groups", "groups": [["embed", "a"], ["b"], ["c", "head"]]},
    "nonlocal": {"mode": "nonlocal"},
    "delay 3": {"mode": "local", "delays": {"a->b": 3, "c->head": 2}},
}
FAR = {"far": {"mode": "local", "delays": dict.fromkeys(("embed->a", "a->b", "b->c", "c->head"), 4)}}
EXECUTIONS = {"plain": PLAIN, "stacked": STACKED, "chunk 4": Execution(stacked=True, chunk=4)}
PAIRINGS = {
    "current": {"pairing": "current"},
    "stashed": {"pairing": "stashed"},
    "graph": {"pairing": "stashed", "stash": "graph"},
    "reversible": {"pairing": "reversible"},
}
ACTORS: dict[str, Sequence[Sequence[str]]] = {
    "1": [LAYERS],
    "2": [LAYERS[:2], LAYERS[2:]],
    "3": [["embed", "c"], ["a", "head"], ["b"]],
    "per-layer": [[name] for name in LAYERS],
}


class Case(NamedTuple):
    place: str
    pairing: str
    actors: str
    links: str
    execution: str = "plain"

    def __str__(self) -> str:
        return "-".join(self).replace(" ", "")


FUSING = [name for name in PAIRINGS if name != "graph"]
PLAIN_CASES = [Case(*case) for case in product(PLACES, PAIRINGS, ACTORS, WIRINGS)]
FUSED_CASES = [
    *(Case(*case, "stacked") for case in product(["local", "delay 3"], FUSING, ACTORS, WIRINGS)),
    *(Case(*case, "chunk 4") for case in product(FAR, FUSING, ACTORS, WIRINGS)),
]
CASES = PLAIN_CASES + FUSED_CASES
FUSED_SAMPLE = [
    Case("local", "stashed", "2", "threads", "stacked"),
    Case("delay 3", "reversible", "3", "zeromq", "stacked"),
    Case("far", "stashed", "per-layer", "threads", "chunk 4"),
    Case("far", "current", "2", "shared", "chunk 4"),
    Case("far", "reversible", "3", "zeromq", "chunk 4"),
]


def sampled(count: int, seed: int = 0) -> list[Case]:
    """Plain cases such that every value of every dimension is there, `count` or a few more, and some fused ones."""
    cases = PLAIN_CASES.copy()
    random.Random(seed).shuffle(cases)
    chosen = cases[:count]
    missing = {value for case in PLAIN_CASES for value in case} - {value for case in chosen for value in case}
    return [
        *chosen,
        *(next(case for case in cases if value in case) for value in sorted(missing)),
        *FUSED_SAMPLE,
    ]


def half() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH // 2, WIDTH // 2), nn.Tanh())


def network() -> Network:
    """A chain: with layers that can be inverted, and others."""
    return network_of(
        {
            "embed": lambda: nn.Sequential(nn.Linear(9, WIDTH), nn.Tanh()),
            "a": lambda: Coupling(half(), half()),
            "b": lambda: Coupling(half(), half()),
            "c": lambda: Residual(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())),
            "head": lambda: nn.Linear(WIDTH, 3),
        }
    )


def batches(count: int, shape: Sequence[int] = (9,), rows: int = 5, last: int = 3) -> list[Any]:
    """Batches of float32, the last one short."""
    generator = torch.Generator().manual_seed(1)
    sizes = [rows] * (count - 1) + [last]
    return [
        (torch.randn(size, *shape, generator=generator), torch.randint(0, 3, (size,), generator=generator))
        for size in sizes
    ]


def differences(
    net: Network,
    place: Mapping[str, Any],
    actors: Sequence[Sequence[str]],
    links: str,
    data: list[Any],
    execution: Execution = PLAIN,
    **rule: Any,
) -> list[str]:
    """What differs between the run in one process and the one over actors, by name; nothing, if all is well."""
    torch.set_num_threads(1)
    motion = learning(**({"beta": 0.05, "weight_dissipation": 0.3, "average": AverageReach(0.9)} | rule))
    locality = Locality(**place)
    alone = InlineRuntime(program(net, locality, motion, data[0][:2], execution=execution))
    run_through(alone, data)
    list(alone.evaluate(data[:2]))
    with Ensemble(
        net,
        locality,
        motion,
        data,
        actors,
        WIRINGS[links],
        dtype=torch.float32,
        holdout=data[:2],
        execution=execution,
        profile=True,
    ) as ensemble:
        outcomes, stream = ensemble.run()
        found = [
            f"{name}.{key}"
            for name, cell in alone.nodes.items()
            for key in sorted(changed(everything(cell), everything(ensemble.nodes[name])))
        ]
        found += [
            name
            for name, cell in alone.nodes.items()
            if not ensemble.nodes[name].ledger.seen_once(stream.samples)
        ]
        if locality.horizon is None:  # windows of time go node by node
            found += [f"no fused ticks of {why}" for why in unfused(outcomes, execution)]
    for node, loss in alone.losses.items():
        told = {
            kind: getattr(o, kind)[node]
            for o in outcomes
            if node in o.prequential
            for kind in ("prequential", "holdout")
        }
        if told != {"prequential": loss.prequential.total(), "holdout": loss.holdout.total()}:
            found.append(f"metrics of {node}")
    if stream.samples != alone.samples:
        found.append("samples")
    return found


def unfused(outcomes: Sequence[Outcome], execution: Execution) -> list[str]:
    """The actors of whose ticks none ran as one, though they should, or none in whole chunks."""
    if not execution.stacked:
        return []
    return [f"actor {o.actor}" for o in outcomes if execution.chunk not in together(o.profile)]


def check(case: Case) -> list[str]:
    place = (PLACES | FAR)[case.place] | PAIRINGS[case.pairing]
    count = {"plain": 12, "stacked": 60, "chunk 4": 96}[case.execution]
    execution = EXECUTIONS[case.execution]
    return differences(network(), place, ACTORS[case.actors], case.links, batches(count), execution)
