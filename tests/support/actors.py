"""A run over several actors that are threads of this process, for the tests of what distribution must not change."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from support.patience import patient
from torch import Tensor

from hamdist.network.learning import Learning
from hamdist.network.locality import Locality
from hamdist.network.network import Network
from hamdist.runtime.actors.layer_actor import Whereabouts
from hamdist.runtime.actors.wirings import SHARED_BYTES, carriers_of, wirings_of
from hamdist.runtime.cell import Cell
from hamdist.runtime.company import Threads
from hamdist.runtime.ends import Layout, hosts_of
from hamdist.runtime.fused.execution import PLAIN, Execution
from hamdist.runtime.links.contract import Patience, Wiring
from hamdist.runtime.links.in_process import Exchange, InProcessWiring
from hamdist.runtime.outline import outline_of
from hamdist.runtime.rehearsal import layout_of, survey_actors, wire
from hamdist.runtime.share import Outcome, Share, StreamOutcome
from hamdist.runtime.stream_worker import StreamWorker
from hamdist.runtime.worker import Worker

Batches = list[tuple[Tensor, Tensor]]
SECONDS = patient(120)
PATIENCE = Patience(heartbeat_seconds=patient(20), progress_seconds=patient(60))
MakeWirings = Callable[[Layout], Sequence[Callable[[], Wiring]]]


def in_process(layout: Layout) -> list[Callable[[], Wiring]]:
    exchange = Exchange()
    return [partial(InProcessWiring, exchange, PATIENCE)] * len(layout.names)


def over_sockets(link: str, layout: Layout, shared_bytes: int = SHARED_BYTES) -> list[Callable[[], Wiring]]:
    """As a run does it, all actors on this host."""
    places = [Whereabouts("here", "127.0.0.1", 0)] * len(layout.names)
    return wirings_of(layout, places, carriers_of(layout, places, link, shared_bytes), PATIENCE, None)


WIRINGS: dict[str, MakeWirings] = {
    "threads": in_process,
    "zeromq": partial(over_sockets, "zeromq"),
    "shared": partial(over_sockets, "auto", shared_bytes=1),
    "gloo": partial(over_sockets, "torch"),
}


class Ensemble:
    """Actors over a network, ready to run; `actors`: names of layers by actor."""

    def __init__(
        self,
        network: Network,
        locality: Locality,
        learning: Learning,
        batches: Batches,
        actors: Sequence[Sequence[str]],
        wirings: MakeWirings = in_process,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
        holdout: Batches | None = None,
        metrics_every: int = 1000,
        execution: Execution = PLAIN,
        profile: bool = False,
        idle_seconds: float = math.inf,
    ) -> None:
        outline = outline_of(network, locality, learning, seed, dtype, execution)
        specs = {spec.name: spec for spec in network.layers}
        self.workers = [
            Worker(
                Share(
                    number,
                    f"actor {number}",
                    outline,
                    tuple(specs[name] for name in names),
                    metrics_every=metrics_every,
                    profile=profile,
                )
            )
            for number, names in enumerate(actors)
        ]
        opens = partial(_opened, batches, holdout)
        self.stream = StreamWorker("the stream", opens, idle_seconds, profile)
        self.company = Threads([*self.workers, self.stream])
        hosts = hosts_of(outline, tuple(tuple(names) for names in actors))
        (first,) = self.company.all([len(actors)], "first_batch", seconds=SECONDS)
        outputs = survey_actors(self.company, outline, hosts, first, SECONDS)
        names = [f"actor {n}" for n in range(len(actors))] + ["the stream"]
        devices = [torch.device("cpu")] * len(names)
        self.layout = layout_of(outline, hosts, names, devices, outputs, first)
        wire(self.company, self.layout, wirings(self.layout), SECONDS)

    def run(self) -> tuple[list[Outcome], StreamOutcome]:
        """To the end; raises what stopped an actor."""
        *outcomes, streamed = self.company.all(range(len(self.workers) + 1), "run", seconds=SECONDS)
        for outcome in (*outcomes, streamed):
            if outcome.error is not None:
                raise outcome.error
        return outcomes, streamed

    @property
    def cells(self) -> dict[str, Cell]:
        return {name: cell for worker in self.workers for name, cell in worker.part.cells.items()}

    def __enter__(self) -> "Ensemble":
        return self

    def __exit__(self, *_: Any) -> None:
        self.company.close()


def _opened(batches: Iterable[tuple[Tensor, Tensor]], holdout: Batches | None) -> Any:
    return iter(batches), lambda: None if holdout is None else iter(holdout)
