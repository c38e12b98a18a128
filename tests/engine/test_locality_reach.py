"""No layer waits and none sees beyond its neighbours: what makes a layer a thing that can live anywhere."""

import random
from types import ModuleType

import pytest
import torch
from support.comparing import everything, same_bits
from support.inline import learning, run_through, runtime_of
from support.inside import channels
from support.networks import mlp, residual_net
from support.random_networks import random_network
from support.samples import samples
from support.seeds import over_seeds
from torch import Tensor, nn

from hamdist.engine.channel import Channel
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.loss_node import LossNode
from hamdist.network.graph import SOURCE, Edge
from hamdist.network.tick_order import islands, turns_of

LEAVES = (str, bytes, int, float, bool, type(None), torch.dtype, torch.device, type, ModuleType)


def reachable(start):
    """Every object that a chain of attributes, items or closures leads to; tensors are leaves."""
    found, todo = {}, [start]
    while todo:
        thing = todo.pop()
        if id(thing) in found or isinstance(thing, LEAVES):
            continue
        found[id(thing)] = thing
        if isinstance(thing, Tensor):
            continue
        if isinstance(thing, dict):
            todo += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset) or hasattr(thing, "maxlen"):
            todo += list(thing)
        todo += [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
        todo += list(getattr(thing, "__dict__", {}).values())
        todo += [
            getattr(thing, slot) for slot in getattr(type(thing), "__slots__", ()) if hasattr(thing, slot)
        ]
    return list(found.values())


@pytest.mark.parametrize("pairing", ["current", "stashed"])
def test_a_cell_reaches_nothing_but_its_own_layer_and_its_own_edges(pairing):
    batches = samples(8, (8,))
    runtime = runtime_of(residual_net(5), batches, pairing=pairing)
    for batch in batches:
        list(runtime.present(*batch))
    for name, cell in runtime.cells.items():
        things = reachable(cell)
        assert cell.spec.layer.pure.module in [t for t in things if isinstance(t, nn.Module)], (
            "the walk is blind"
        )
        assert any(t is cell.carry.parameters["weight" if name == "4" else "body.0.weight"] for t in things)
        assert not [t for t in things if isinstance(t, Channel | LossNode | InlineRuntime)]
        assert [t for t in things if isinstance(t, LayerNode)] == [cell]
        edges = {t for t in things if isinstance(t, Edge)}
        assert edges == {e for e in runtime.program.graph.edges if name in (e.source, e.target)}
        others = [other.spec.layer.pure.module for key, other in runtime.cells.items() if key != name]
        assert not [t for t in things if any(t is other for other in others)]


def test_what_travels_drags_no_graph_behind_it():
    """A signal with an autograd history would hold the layers it came through."""
    batches = samples(8, (8,))
    runtime = runtime_of(residual_net(4), [(x.requires_grad_(), y) for x, y in batches])
    for batch in batches:
        list(runtime.present(*batch))
    travelling = [
        m.value for c in channels(runtime) for m in (*c.signals, *c.costates) if c.edge.source != SOURCE
    ]
    kept = [tensor for cell in runtime.cells.values() for tensor in everything(cell).values()]
    assert travelling
    assert not any(t.requires_grad or t.grad_fn is not None for t in [*travelling, *kept])


class Learnt(nn.Module):
    """The same learnt row for every row of the batch: its output is a view of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.row = nn.Parameter(torch.linspace(-1, 1, 8).double())

    def forward(self, x: Tensor) -> Tensor:
        return self.row.expand(len(x), -1)


@pytest.mark.parametrize("dissipation", [1.0, 0.4])
def test_what_was_sent_does_not_change_under_way(dissipation):
    """Weights move while signals travel: even a signal that is a view of weights arrives as it left."""
    batches = samples(20, (8,))
    edges = ["source->0", "source->1", "0->2", "1->2", "2->3"]
    layers = [Learnt(), *mlp(2)[:1], *mlp(2)]
    rule = learning(0.1, weight_dissipation=dissipation)
    runtime = runtime_of(layers, batches, edges=edges, rule=rule, delays={"0->2": 3, "1->2": 3})
    sent: dict[int, tuple[Tensor, Tensor]] = {}
    for batch in batches:
        list(runtime.present(*batch))
        for channel in channels(runtime):
            for message in (*channel.signals, *channel.costates):
                if message.value is not None:
                    sent.setdefault(id(message.value), (message.value, message.value.clone()))
        assert all(torch.equal(value, as_sent) for value, as_sent in sent.values())
    assert len(sent) > 60


@pytest.mark.slow
@pytest.mark.parametrize("pairing", ["current", "stashed"])
@pytest.mark.parametrize("delay", [1, 3])
def test_news_travels_one_edge_per_delay_and_no_faster(pairing, delay):
    """Layer 3's weights are changed before tick 40, long after warm-up: layer ℓ follows after |ℓ − 3| edges."""
    depth, place, at = 6, 3, 40
    batches = samples(70, (8,))
    delays = {f"{i}->{i + 1}": delay for i in range(depth - 1)}
    runs = [runtime_of(residual_net(depth), batches, pairing=pairing, delays=delays) for _ in range(2)]
    first = {}
    for tick, batch in enumerate(batches):
        if tick == at:
            carry = runs[1].cells[str(place)].carry
            runs[1].cells[str(place)].carry = carry._replace(
                parameters={k: v + 1 for k, v in carry.parameters.items()}
            )
        for runtime in runs:
            list(runtime.present(*batch))
        for name in runs[0].cells:
            ours, theirs = (everything(runtime.cells[name]) for runtime in runs)
            if any(not torch.equal(ours[key], theirs[key]) for key in ours):
                first.setdefault(name, tick)
    upstream = {str(i): at + delay * (place - i) for i in range(place + 1)}
    if pairing == "current":
        assert first == upstream | {str(i): at + delay * (i - place) for i in range(place, depth)}
        return
    # Downstream a stashed layer learns from the changed signal only when that sample's costate returns.
    arrival = {i: delay * (i - place) for i in range(depth)}
    returns = {str(i): at + arrival[i] + 2 * delay * (depth - 1 - i) for i in range(place + 1, depth)}
    for name, tick in returns.items():
        assert at + arrival[int(name)] <= first[name] <= tick
    assert {name: first[name] for name in upstream} == upstream


class Shuffled(InlineRuntime):
    """Another order in every tick.

    together: all nodes evaluate in some order that respects the edges of delay 0, and then all react in its reverse;
    else the islands come in some order.
    """

    def __init__(self, program, seed: int, together: bool) -> None:
        super().__init__(program)
        self.chance = random.Random(seed)
        self.together = together
        self.orders = set()
        self._advance, self._part.advance = self._part.advance, self._shuffled

    def _shuffled(self, ticks=1):
        assert ticks == 1
        apart = islands(self.program.graph)
        chosen = (self._order(),) if self.together else tuple(self.chance.sample(apart, len(apart)))
        self.orders.add(chosen)
        self._part.order = tuple(turn for turn in turns_of(chosen) if turn.node != SOURCE)
        return self._advance()

    def _order(self):
        graph, order = self.program.graph, []
        waiting = [node for node in graph.nodes if node != SOURCE]
        while waiting:
            ready = [
                n for n in waiting if not any(e.delay == 0 and e.source in waiting for e in graph.into(n))
            ]
            order.append(self.chance.choice(ready))
            waiting.remove(order[-1])
        return tuple(order)


TOGETHER = pytest.mark.parametrize("together", [True, False], ids=["all at once", "island by island"])


@pytest.mark.slow
@TOGETHER
@pytest.mark.parametrize("pairing", ["current", "stashed"])
def test_with_all_delays_1_the_layers_of_a_tick_run_in_any_order(pairing, together):
    batches = samples(30, (8,))
    reference = runtime_of(mlp(6), batches, pairing=pairing)
    shuffled = Shuffled(reference.program, 1, together)
    ours, theirs = run_through(shuffled, batches), run_through(reference, batches)
    assert len(shuffled.orders) > 30
    assert same_bits(shuffled, reference)
    assert all(torch.equal(a.output, b.output) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.slow
@TOGETHER
@pytest.mark.parametrize("mode", ["local", "nonlocal"])
@over_seeds(4)
def test_in_random_graphs_any_order_that_respects_delay_0_gives_the_same_bits(seed, mode, together):
    network, _ = random_network(seed, mode=mode)
    batches = samples(10, (6,))
    reference = runtime_of(network, batches, mode=mode)
    shuffled = Shuffled(reference.program, seed, together)
    run_through(shuffled, batches)
    run_through(reference, batches)
    assert same_bits(shuffled, reference)
