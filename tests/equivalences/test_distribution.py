"""E9: a run over actors gives the bits of the run in one process, whatever the placement and the links."""

import math
import random
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.actors import Ensemble, ListFeed
from support.inline import learning
from support.matrix import FAR, batches, check, differences, sampled
from support.networks import network_of
from support.patience import patient
from support.random_networks import random_network
from torch import Tensor, nn

from hamdist.cluster.actor import Location
from hamdist.cluster.handle import results
from hamdist.cluster.stream_worker import StreamWorker
from hamdist.cluster.transports import SHARED_BYTES, carriers_of
from hamdist.engine.message import Form
from hamdist.engine.source import Source
from hamdist.engine.spec import PLAIN, STACKED, Execution
from hamdist.errors import DivergenceError, NetworkError, RunError, StreamError
from hamdist.network.locality import Horizon, Locality
from hamdist.network.network import Network
from hamdist.physics import statespace
from hamdist.physics.modules import Residual
from hamdist.physics.rates import Adam
from hamdist.physics.soap import Soap

pytestmark = pytest.mark.usefixtures("one_fitter")

HORIZON = Horizon(4)
OVER_TIME = {
    "forward": ({"mode": "local", "pairing": "current"}, PLAIN),
    "forward, stacked": ({"mode": "local"}, STACKED),
    "forward, chunks": (FAR["far"], Execution(stacked=True, chunk=4)),
    "blocks": ({"mode": "local", "horizon": HORIZON}, PLAIN),
    "blocks, chunks": (FAR["far"] | {"horizon": HORIZON}, Execution(stacked=True, chunk=4)),
    "non-local blocks": ({"mode": "nonlocal", "horizon": HORIZON}, STACKED),
    "slid": ({"mode": "local", "delays": {"a->b": 3}, "horizon": Horizon(3, slid=True)}, PLAIN),
}


EXACT = {
    "exact": ({"mode": "local", "exact": True}, PLAIN),
    "exact, stacked": ({"mode": "local", "exact": True}, STACKED),
    "exact, chunks": (FAR["far"] | {"exact": True}, Execution(stacked=True, chunk=4)),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "links"),
    [
        ("forward", "shared"),
        ("forward, stacked", "threads"),
        ("forward, chunks", "zeromq"),
        ("blocks", "zeromq"),
        ("blocks, chunks", "zeromq"),
        ("non-local blocks", "threads"),
        ("slid", "shared"),
    ],
)
def test_layers_with_memories(case, links):
    """Episodes begin in one row or several, every seventh batch; memories of two kinds stack, by kind."""
    check_memories(remembering(), links, *OVER_TIME[case])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "links"), [("exact", "zeromq"), ("exact, stacked", "shared"), ("exact, chunks", "threads")]
)
def test_memories_that_learn_exactly(case: str, links: str) -> None:
    check_memories(elementwise(), links, *EXACT[case])


def check_memories(
    net: Network,
    links: str,
    place: dict[str, Any],
    execution: Execution,
    actors: Sequence[Sequence[str]] = (("embed", "b"), ("a", "c"), ("head",)),
) -> None:
    *whole, short = batches({PLAIN: 32, STACKED: 60}.get(execution, 96))
    flags = [torch.tensor([(k + row) % 7 == 0 for row in range(5)]) for k in range(len(whole))]
    data = [*((*batch, flag) for batch, flag in zip(whole, flags, strict=True)), short]
    assert differences(net, place, actors, links, data, execution, beta=0.02) == []


@pytest.mark.slow
def test_starts_that_are_learnt_have_one_derivative_with_episodes_or_without() -> None:
    """Delays longer than the ticks between two episodes: what is heard begins one where what returns does not."""
    net = network_of(
        {
            "embed": lambda: nn.Linear(9, 14),
            "c": lambda: statespace.DiagonalReal(14, 14, initial="learnt"),
            "head": lambda: nn.Linear(14, 3),
        }
    )
    place = {"mode": "local", "delays": {"embed->c": 4, "c->head": 4}}
    check_memories(net, "threads", place, STACKED, [["embed"], ["c"], ["head"]])


def elementwise() -> Network:
    return network_of(
        {
            "embed": lambda: nn.Linear(9, 14),
            "a": lambda: Residual(statespace.DiagonalReal(14, 14)),
            "b": lambda: Residual(statespace.DiagonalReal(14, 14)),
            "c": lambda: statespace.DiagonalReal(14, 14, initial="learnt"),
            "head": lambda: nn.Linear(14, 3),
        }
    )


def remembering() -> Network:
    return network_of(
        {
            "embed": lambda: nn.RNNCell(9, 14),
            "a": lambda: nn.GRUCell(14, 14),
            "b": lambda: statespace.Cell("GRUCell", 14, 14, initial="learnt"),
            "c": lambda: nn.Sequential(nn.Linear(14, 14), nn.LSTMCell(14, 14)),
            "head": lambda: nn.Linear(14, 3),
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", sampled(9), ids=str)
def test_the_sampled_matrix(case):
    assert check(case) == []


@pytest.mark.slow
@pytest.mark.parametrize("pairing", ["current", "stashed"])
@pytest.mark.parametrize("mode", ["local", "nonlocal"])
@pytest.mark.parametrize("seed", range(3))
def test_random_graphs_on_random_actors(seed, mode, pairing):
    """Skip edges, joins and several losses; layers strewn over three actors, so that signals go to and fro."""
    network, _ = random_network(seed, mode=mode, pairing=pairing)
    chance = random.Random(seed)
    strewn = [chance.choice(range(3)) for _ in network.names]
    actors = [[n for n, a in zip(network.names, strewn, strict=True) if a == actor] for actor in range(3)]
    place = {"mode": mode, "pairing": pairing}
    assert (
        differences(network, place, [names for names in actors if names], "threads", batches(10, (6,))) == []
    )


def tanh(inputs: int = 9, outputs: int = 9, *more: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.Tanh(), *more)


BUILDERS = {"a": tanh, "b": tanh, "c": tanh, "head": lambda: nn.Linear(9, 3)}
PER_LAYER = [[name] for name in BUILDERS]
TWO = [["a", "c"], ["b", "head"]]


def test_feedback_returns_over_links_too():
    network = network_of(BUILDERS, ["a->b", "b->c", "c->head", "c->a", "b->b"])
    for pairing in ("current", "stashed"):
        assert differences(network, {"pairing": pairing}, TWO, "threads", batches(12)) == []


@pytest.mark.parametrize("stash", ["inputs", "graph"])
def test_random_layers_draw_the_same_and_batch_statistics_see_the_same_rows(stash):
    builders = BUILDERS | {
        "b": lambda: nn.Sequential(nn.Linear(9, 9), nn.Dropout(0.3)),
        "c": lambda: nn.Sequential(nn.Linear(9, 9), nn.BatchNorm1d(9), nn.Tanh()),
    }
    place = {"pairing": "stashed", "stash": stash}
    assert differences(network_of(builders), place, PER_LAYER, "threads", batches(12)) == []


def test_held_samples_settle_over_links():
    place = {"pairing": "current", "gate": "settled", "hold": 8}
    assert differences(network_of(BUILDERS), place, PER_LAYER, "threads", batches(6)) == []


def test_edges_that_begin_with_zeros():
    place = {"warmup": "zeros", "delays": {"a->b": 2}}
    assert differences(network_of(BUILDERS), place, TWO, "threads", batches(8)) == []


@pytest.mark.parametrize("adaptive", [Adam(), Soap()], ids=["adam", "soap"])
def test_adaptive_rates_keep_their_moments_where_the_layer_is(adaptive):
    rule = {"adaptive": adaptive, "weight_dissipation": 1.0, "beta": 0.01}
    assert differences(network_of(BUILDERS), {}, PER_LAYER, "zeromq", batches(10), **rule) == []


class Transposed(nn.Module):
    """Its output, and the costate that it returns, are views in another order than they lie in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(7, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.transpose(1, 2)).transpose(1, 2)[:, 1:]


def test_signals_that_are_views_are_the_same_bits_near_and_far():
    builders = {
        "a": Transposed,
        "b": lambda: nn.Sequential(nn.Flatten(), nn.Linear(8 * 7, 9), nn.Tanh()),
        "head": lambda: nn.Linear(9, 3),
    }
    rows = batches(10, (7, 7))
    assert differences(network_of(builders), {}, [["a"], ["b", "head"]], "zeromq", rows) == []


@pytest.mark.slow
@pytest.mark.parametrize("links", ["zeromq", "shared"])
def test_one_batch_larger_than_the_window_of_the_stream(links):
    """17 MB a batch: the stream runs three ticks ahead, not sixteen."""
    data = batches(3, (850, 1000))
    builders = {"a": lambda: nn.Flatten(2), "b": lambda: Mean(), "head": lambda: nn.Linear(1000, 3)}
    assert differences(network_of(builders), {}, [["a"], ["b", "head"]], links, data) == []


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1)


def test_only_large_signals_between_actors_of_one_host_go_through_shared_memory():
    builders = {"a": lambda: tanh(9, 2048), "b": lambda: tanh(2048, 9), "c": tanh, "head": lambda: tanh(9, 3)}
    with ensemble(builders, batches(2, (9,)), PER_LAYER) as actors:
        layout = actors.layout
    rows = SHARED_BYTES // (2048 * 4)
    layout = replace(
        layout, outputs={n: Form((rows, f.shape[1]), f.dtype) for n, f in layout.outputs.items()}
    )
    here, there = Location("1", "10.0.0.1", 1), Location("2", "10.0.0.2", 2)

    def shared(places, link):
        carriers = carriers_of(layout, places, link)
        assert all("shared memory" in c.name for c in carriers.values() if c.shared)
        return [edge for edge, carrier in carriers.items() if carrier.shared]

    assert shared([here] * 5, "auto") == ["a->b"]
    assert shared([here] * 5, "zeromq") == []
    assert shared([here] * 5, "torch") == []
    assert shared([here, there, here, here, here], "auto") == []
    assert (
        carriers_of(layout, [here] * 5, "auto")["a->b"].name == "ZeroMQ, ipc, tensors through shared memory"
    )


def ensemble(layers, data, actors, execution=PLAIN, idle_seconds=math.inf, **place) -> Ensemble:
    network = layers if isinstance(layers, Network) else network_of(layers)
    return Ensemble(
        network,
        Locality(**place),
        learning(0.05),
        data,
        actors,
        dtype=torch.float32,
        execution=execution,
        idle_seconds=idle_seconds,
    )


def test_a_stream_that_breaks_off_is_learnt_until_there():
    def broken():
        yield from batches(5, last=5)
        raise OSError("the disk is gone")

    with ensemble(BUILDERS, broken(), TWO) as actors:
        *outcomes, stream = actors.outcomes(patient(60))
        assert isinstance(stream.error, StreamError)
        assert str(stream.error) == "the stream failed after 25 samples: OSError('the disk is gone')"
        assert "the disk is gone" in stream.details
        assert all(o.error is None and led.seen_once(25) for o in outcomes for led in o.ledgers.values())


class Fails(nn.Module):
    """Fails when it learns for the fifth time; the survey before the run evaluates it four times."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 20:
            raise ValueError("no more")
        return x + 0


def test_a_layer_that_fails_takes_the_others_with_it_and_is_named():
    with ensemble(BUILDERS | {"b": Fails}, batches(30), PER_LAYER) as actors:
        outcomes = actors.outcomes(patient(60))
    assert str(outcomes[1].error).startswith("layer 'b' failed at tick ")
    assert str(outcomes[1].error).endswith(": no more")
    assert "ValueError: no more" in outcomes[1].details
    others = [outcome.error for number, outcome in enumerate(outcomes) if number != 1]
    assert all(isinstance(error, RunError) and "has gone away" in str(error) for error in others)


def test_a_loss_that_is_not_finite_names_the_tick():
    data = batches(10)
    data[6] = (data[6][0] * float("inf"), data[6][1])
    with ensemble(BUILDERS, data, TWO, mode="nonlocal") as actors:
        outcomes = actors.outcomes(patient(60))
    assert isinstance(outcomes[1].error, DivergenceError)
    assert re.match(r"the loss cross_entropy of samples \d+ to \d+ is nan at tick 6", str(outcomes[1].error))


def test_the_end_can_be_asked_for_in_the_midst_of_an_endless_stream():
    def endless():
        while True:
            yield batches(1, last=5)[0]

    with ensemble(BUILDERS, endless(), TWO) as actors:
        runs = actors.start()
        while actors.stream.progress().samples < 50:
            assert not runs[2].done()
        actors.stream.end()
        *outcomes, stream = results(runs, patient(60))
    assert stream.error is None
    assert stream.samples >= 50
    assert all(led.seen_once(stream.samples) for o in outcomes for led in o.ledgers.values())


def test_a_stop_is_heard_while_an_actor_waits():
    def silent():
        yield batches(1, last=5)[0]
        waits.wait(patient(60))

    waits = threading.Event()
    with ensemble(BUILDERS, silent(), TWO) as actors:
        runs = actors.start()
        for worker in (*actors.workers, actors.stream):
            worker.stop()
        outcomes = results(runs, patient(60))
        waits.set()
    assert all(outcome.error is None or isinstance(outcome.error, RunError) for outcome in outcomes)


def test_what_cannot_run_is_refused_as_in_one_process():
    """Each of these an actor finds out, not the driver, which has built no layer."""
    with pytest.raises(NetworkError, match=r"but layer 'b' .* cannot take it"):
        ensemble(BUILDERS | {"b": lambda: tanh(7)}, batches(2), PER_LAYER)
    with pytest.raises(NetworkError, match="does not fit"):
        ensemble(BUILDERS, [(torch.randn(4, 9), torch.randn(4, 2))], PER_LAYER)
    with pytest.raises(NetworkError, match="none of a, b, c, head has an inverse"):
        ensemble(BUILDERS, batches(2), PER_LAYER, pairing="reversible")
    with pytest.raises(NetworkError, match="feedback edge head->a: 'head' gives"):
        ensemble(
            network_of(BUILDERS, ["a->b", "b->c", "c->head", "head->a"]),
            batches(2),
            TWO,
        )


@pytest.mark.slow
@pytest.mark.parametrize("count", range(1, 10))
def test_a_stream_may_end_anywhere_in_a_chunk(count):
    """A message of four ticks goes only when it is whole: nobody may wait for the rest of the last one."""
    place = {"delays": dict.fromkeys(("a->b", "b->c", "c->head"), 4)}
    chunks = Execution(chunk=4)
    assert differences(network_of(BUILDERS), place, TWO, "threads", batches(count + 1), chunks) == []


@pytest.mark.slow
@pytest.mark.parametrize("hold", [1, 3, 40])
def test_batches_cross_in_messages_of_any_length(hold):
    """The stream says at most 32 ticks in one message here, and holds end anywhere in a chunk, or in a message.

    Neither a tick's signals, of 180 bytes, nor its stashed inputs begin at aligned addresses in those of a chunk.
    """
    place = {"delays": dict.fromkeys(("a->b", "b->c", "c->head"), 4), "hold": hold}
    chunks = Execution(stacked=True, chunk=4)
    count = 240 // hold
    driven_often = [] if hold == 1 else [*BUILDERS]
    assert differences(network_of(BUILDERS), place, TWO, "zeromq", batches(count), chunks) == driven_often


def test_silence_keeps_holds_and_messages_whole():
    worker = StreamWorker("the stream", partial(ListFeed, []))
    worker._source, worker._layout = Source(2, hold=3), SimpleNamespace(chunk=4)
    for presented in range(5):
        for _ in range(presented):
            list(worker._source.present([(torch.zeros(2, 1), torch.zeros(2))]))
        before = worker._source.tick
        list(worker._silent())
        assert worker._source.tick - before >= 3
        assert worker._source.tick % 12 == 0


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 4])
def test_a_stream_that_falls_silent_is_not_taken_for_lost(chunk):
    """It says so, tick by tick, while it waits; what was under way is learnt, and nothing is lost or learnt twice."""
    quiet = threading.Event()

    def halting():
        yield from batches(4, last=5)
        quiet.wait(patient(60))
        yield from batches(4, last=5)

    delays = dict.fromkeys(("a->b", "b->c", "c->head"), chunk)
    with ensemble(BUILDERS, halting(), TWO, Execution(chunk=chunk), 0.0, delays=delays) as actors:
        runs = actors.start()
        while (
            actors.workers[1].partition.tick < 40
        ):  # far beyond the four batches and all that follows from them
            assert not runs[1].done()
        quiet.set()
        *outcomes, stream = results(runs, patient(60))
    assert stream.samples == 40
    assert all(o.error is None and led.seen_once(40) for o in outcomes for led in o.ledgers.values())
