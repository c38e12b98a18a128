"""A run over several actors that are threads of this process, for the tests of what distribution must not change."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Any

import torch
from support.patience import patient
from torch import Tensor

from hamdist.cluster.actor import Location
from hamdist.cluster.cutter import CutSchedule
from hamdist.cluster.feed import Feed, Pairs
from hamdist.cluster.handle import results
from hamdist.cluster.hosted_layers import WorkerSpec
from hamdist.cluster.layout import Layout, hosts_of
from hamdist.cluster.outcome import Outcome, StreamOutcome
from hamdist.cluster.setup import RemoteBuilder, layout_of, wire
from hamdist.cluster.source_part import SourcePart
from hamdist.cluster.stream_worker import StreamWorker
from hamdist.cluster.transports import SHARED_BYTES, carriers_of, wirings_of
from hamdist.cluster.worker import Worker
from hamdist.cluster.worker_group import ThreadWorkers
from hamdist.engine.build import examine_all
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.spec import PLAIN, Execution, outline_of
from hamdist.engine.state import PartitionState
from hamdist.network.learning import Learning
from hamdist.network.locality import Locality
from hamdist.network.network import Network
from hamdist.transport.base import Patience, Wiring
from hamdist.transport.local import Exchange, InProcessWiring

Batches = list[tuple[Tensor, Tensor]]
Cut = tuple[PartitionState, SourcePart]
SECONDS = patient(120)
PATIENCE = Patience(heartbeat_seconds=patient(20), progress_seconds=patient(60))
MakeWirings = Callable[[Layout], Sequence[Callable[[], Wiring]]]


def in_process(layout: Layout) -> list[Callable[[], Wiring]]:
    exchange = Exchange()
    return [partial(InProcessWiring, exchange, PATIENCE)] * len(layout.names)


def over_sockets(link: str, layout: Layout, shared_bytes: int = SHARED_BYTES) -> list[Callable[[], Wiring]]:
    """As a run does it, all actors on this host."""
    places = [Location("here", "127.0.0.1", 0)] * len(layout.names)
    return wirings_of(layout, places, carriers_of(layout, places, link, shared_bytes), PATIENCE, None)


WIRINGS: dict[str, MakeWirings] = {
    "threads": in_process,
    "zeromq": partial(over_sockets, "zeromq"),
    "shared": partial(over_sockets, "auto", shared_bytes=1),
    "gloo": partial(over_sockets, "torch"),
}


class Ensemble:
    """Actors over a network, ready to run; `actors`: names of layers by actor; `start`: a cut to go on from."""

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
        labels: tuple[Any, ...] | None = None,
        cuts: CutSchedule | None = None,
        feed: Callable[[], Feed] | None = None,
        start: Cut | None = None,
    ) -> None:
        outline = outline_of(network, locality, learning, seed, dtype, execution)
        specs = {spec.name: spec for spec in network.layers}
        self.workers = [
            Worker(
                WorkerSpec(
                    number,
                    f"actor {number}",
                    outline,
                    tuple(specs[name] for name in names),
                    metrics_every=metrics_every,
                    profile=profile,
                    labels=labels,
                )
            )
            for number, names in enumerate(actors)
        ]
        opens = feed or partial(ListFeed, batches, holdout)
        self.stream = StreamWorker("the stream", opens, idle_seconds, profile, cuts)
        self.group = ThreadWorkers(self.workers, self.stream)
        hosts = hosts_of(outline, tuple(tuple(names) for names in actors))
        first = self._first_batch(start)
        facts = examine_all(outline, RemoteBuilder(self.group, outline, hosts, SECONDS), first)
        devices = [torch.device("cpu")] * len(self.group.names)
        self.layout = layout_of(outline, hosts, self.group.names, devices, facts, first)
        wire(self.group, self.layout, wirings(self.layout), SECONDS)
        if start is not None:
            state, part = start
            results([each.call(Worker.restore, state, part.state) for each in self.group.workers], SECONDS)

    def _first_batch(self, start: Cut | None) -> Any:
        stream = self.group.stream
        if start is None:
            return results([stream.call(StreamWorker.first_batch)], SECONDS)[0]
        results([stream.call(StreamWorker.rewind, start[1])], SECONDS)
        return start[1].first

    def start(self) -> list[Future[Any]]:
        """All run from now on, the stream last."""
        runs = [worker.call(Worker.run) for worker in self.group.workers]
        return [*runs, self.group.stream.call(StreamWorker.run)]

    def outcomes(self, seconds: float = SECONDS) -> list[Any]:
        """How all ended, the stream last."""
        return results(self.start(), seconds)

    def run(self) -> tuple[list[Outcome], StreamOutcome]:
        """To the end; raises what stopped an actor."""
        *outcomes, streamed = self.outcomes()
        for outcome in (*outcomes, streamed):
            if outcome.error is not None:
                raise outcome.error
        return outcomes, streamed

    @property
    def nodes(self) -> dict[str, LayerNode]:
        return {name: node for worker in self.workers for name, node in worker.partition.nodes.items()}

    def __enter__(self) -> "Ensemble":
        return self

    def __exit__(self, *_: Any) -> None:
        self.group.close()


class ListFeed:
    """Batches that are at hand, or that come; its position is their number."""

    seeks = True

    def __init__(self, batches: Iterable[tuple[Tensor, Tensor]], holdout: Batches | None = None) -> None:
        self._batches, self._holdout = batches, holdout
        self._done = 0

    @property
    def skipped(self) -> dict[str, int]:
        return {}

    @property
    def taken(self) -> int:
        return self._done

    def __iter__(self) -> Pairs:
        for batch in islice(self._batches, self._done, None):
            self._done += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {"done": self._done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._done = state["done"]

    def holdout(self) -> Pairs | None:
        return None if self._holdout is None else iter(self._holdout)
