"""E9: whatever the placement and the links, a run over actors gives the bits of the run in one process.

    python tests/matrix.py      every case; `make test` runs a sample of them

The bits are those of weights, costates, states, buffers, moments and counts of every layer, and of all metrics.
"""

import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from actors import WIRINGS, Ensemble
from helpers import changed, everything, learning, network_of, run_through
from torch import nn

from hamdist.network.locality import Locality
from hamdist.network.network import Network
from hamdist.physics.blocks import Coupling, Residual
from hamdist.runtime.fused.execution import PLAIN, Execution
from hamdist.runtime.inline import InlineRuntime
from hamdist.runtime.program import program

WIDTH = 14  # not a multiple of any vector's length
LAYERS = ("embed", "a", "b", "c", "head")
PLACES: dict[str, dict[str, Any]] = {
    "local": {"mode": "local"},
    "groups": {"mode": "groups", "groups": [["embed", "a"], ["b"], ["c", "head"]]},
    "nonlocal": {"mode": "nonlocal"},
    "delay 3": {"mode": "local", "delays": {"a->b": 3, "c->head": 2}},
}
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

    def __str__(self) -> str:
        return "-".join(self).replace(" ", "")


CASES = [Case(*case) for case in product(PLACES, PAIRINGS, ACTORS, WIRINGS)]


def sampled(count: int, seed: int = 0) -> list[Case]:
    """Cases such that every value of every dimension is there, and `count` or a few more in all."""
    cases = CASES.copy()
    random.Random(seed).shuffle(cases)
    chosen = cases[:count]
    missing = {value for case in CASES for value in case} - {value for case in chosen for value in case}
    return chosen + [next(case for case in cases if value in case) for value in sorted(missing)]


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
    motion = learning(**({"beta": 0.05, "weight_dissipation": 0.3} | rule))
    locality = Locality(**place)
    alone = InlineRuntime(program(net, locality, motion, data[0], execution=execution))
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
    ) as ensemble:
        outcomes, stream = ensemble.run()
        found = [
            f"{name}.{key}"
            for name, cell in alone.cells.items()
            for key in sorted(changed(everything(cell), everything(ensemble.cells[name])))
        ]
        found += [
            name
            for name, cell in alone.cells.items()
            if not ensemble.cells[name].ledger.seen_once(stream.samples)
        ]
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


def check(case: Case) -> list[str]:
    place = PLACES[case.place] | PAIRINGS[case.pairing]
    return differences(network(), place, ACTORS[case.actors], case.links, batches(12))


def report() -> Iterator[str]:
    for case in CASES:
        started = time.perf_counter()
        found = check(case)
        verdict = "equal" if not found else f"DIFFERS in {', '.join(found)}"
        yield f"{case}: {verdict} ({time.perf_counter() - started:.1f} s)"


def main() -> None:
    lines = []
    for line in report():
        print(line, flush=True)
        lines.append(line)
    failed = sum("DIFFERS" in line for line in lines)
    print(f"{len(lines) - failed} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
