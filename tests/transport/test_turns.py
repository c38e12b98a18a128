"""The order in which actors post their transfers: over wires that behave as NCCL nobody waits for ever."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from support.actor_plans import Plan, random_plan
from support.seeds import over_seeds

from hamdist.network.graph import LOSS, SOURCE, Edge
from hamdist.network.tick_order import crossings, turns_of
from hamdist.transport.base import Endpoint, LinkError
from hamdist.transport.p2p_order import (
    PeerTransfers,
    PostedReceive,
    Slot,
    TransferOrder,
    most_under_way,
    slots_of,
)

BOTH_WAYS = Plan(("a", "b"), {"a": 0, "b": 1}, (Edge("a", "b", 1), Edge("b", "a", 1, feedback=True)))


# A wire that behaves as NCCL


@dataclass
class Half:
    """What one end posted."""

    sends: bool
    tensor: torch.Tensor


class Wire:
    """Transfers run one after the other in the order posted, and each ends only when both halves are there."""

    def __init__(self) -> None:
        self.posted: tuple[list[Half], list[Half]] = ([], [])
        self._ended = 0

    @property
    def ended(self) -> int:
        while self._ended < min(map(len, self.posted)):
            one, other = (halves[self._ended] for halves in self.posted)
            if one.sends == other.sends:
                break  # both wait for each other for ever
            sent, got = (one, other) if one.sends else (other, one)
            assert sent.tensor.shape == got.tensor.shape, "one transfer was mistaken for another"
            got.tensor.copy_(sent.tensor)
            self._ended += 1
        return self._ended


class WireTransfer:
    def __init__(self, wire: Wire, index: int) -> None:
        self._wire, self._index = wire, index

    @property
    def done(self) -> bool:
        return self._index < self._wire.ended

    def wait(self, seconds: float) -> None:
        if not self.done:
            raise TimeoutError("it would wait here")

    finish = wait


class WireGroup:
    def __init__(self, wire: Wire, rank: int, posts_ahead: bool = False) -> None:
        self._wire, self.mine, self.posts_ahead = wire, wire.posted[rank], posts_ahead

    @property
    def idle(self) -> bool:
        return self._wire.ended == len(self.mine)

    def send(self, tensors: tuple[torch.Tensor, ...]) -> WireTransfer:
        return self._post(True, tensors)

    def receive(self, tensors: tuple[torch.Tensor, ...]) -> WireTransfer:
        return self._post(False, tensors)

    def close(self, seconds: float) -> None:
        pass

    def _post(self, sends: bool, tensors: tuple[torch.Tensor, ...]) -> WireTransfer:
        self.mine.append(Half(sends, *tensors))
        return WireTransfer(self._wire, len(self.mine) - 1)

    def story(self) -> list[str]:
        return [f"{'send' if half.sends else 'receive'} {len(half.tensor)}" for half in self.mine]


class OnDemand:
    """What one would do without turns: post a receive when something is awaited."""

    def __init__(self, slots: Sequence[Slot], transfers: dict[int, PeerTransfers]) -> None:
        self._transfers = transfers

    def check(self, end: Endpoint) -> None:
        pass

    def sent(self) -> None:
        pass

    def awaited(self, end: Endpoint) -> PostedReceive:
        tensors = tuple(torch.empty(form.shape, dtype=form.dtype) for form in end.receives)
        return PostedReceive(tensors, self._transfers[end.peer]._group.receive(tensors))


class Simulation:
    """All actors of a plan over such wires, one step of a randomly chosen one at a time."""

    def __init__(self, plan: Plan, seed: int, order: type = TransferOrder) -> None:
        self.plan, self.chance = plan, random.Random(seed)
        self.wires: dict[tuple[int, int], Wire] = defaultdict(Wire)
        self.sent: dict[tuple[int, bool], int] = defaultdict(int)  # messages, by edge and direction
        self.taken: dict[tuple[int, bool], int] = defaultdict(int)
        self._make_order = order
        # The last messages to an actor that sends nothing itself may find nobody who posts a receive.
        slots = [slots_of(plan.crossings, plan.endpoints(me)) for me in plan.actors]
        self._last = 0 if all(any(slot.sends for slot in each) for each in slots) else 4

    def run(self, ticks: int) -> None:
        """Raises AssertionError where nobody can go on."""
        players = {me: self._play(me, ticks) for me in self.plan.actors}
        waits = {me: next(player, None) for me, player in players.items()}
        while ready := [me for me, wait in waits.items() if wait is not None and wait()]:
            me = self.chance.choice(ready)
            waits[me] = next(players[me], None)
        stuck = [me for me, wait in waits.items() if wait is not None]
        assert not stuck, f"actors {stuck} wait for ever"

    def _play(self, me: int, ticks: int):
        """Yields what must come true before the actor goes on."""
        ends = self.plan.endpoints(me)
        slots = slots_of(self.plan.crossings, ends)
        pairs = {
            peer: WireGroup(self.wires[min(me, peer), max(me, peer)], int(me > peer))
            for peer in self.peers(ends)
        }
        transfers = {
            peer: PeerTransfers(pair, [s for s in slots if s.endpoint.peer == peer])
            for peer, pair in pairs.items()
        }
        order = self._make_order(slots, transfers)
        by_edge = {end.edge: end for end in ends}
        for tick in range(ticks):
            for what, edge, forward, after in list(self.plan.order(me)):
                end, line = by_edge[edge], (edge, forward)
                if what == "send":
                    yield lambda end=end, line=line: self.sent[line] - self.taken[line] < most_under_way(end)
                    if end.sends:
                        order.check(end)
                    self.sent[line] += 1
                    if end.sends:
                        tensor = torch.full(end.sends[0].shape, tick, dtype=torch.float64)
                        transfers[end.peer].send(end, (tensor,), 0.0)
                        order.sent()
                elif tick >= after:
                    yield from self._receive(end, line, tick - after, order)
                if self.chance.random() < 0.2 and tick < ticks - self._last:
                    yield lambda: all(
                        pair.idle for pair in pairs.values()
                    )  # its GPU waits for all that was posted

    def _receive(self, end: Endpoint, line: tuple[int, bool], tick: int, order: TransferOrder):
        posted = order.awaited(end) if end.receives else None
        yield lambda: self.sent[line] > self.taken[line]
        self.taken[line] += 1
        if posted is not None:
            yield lambda: posted.transfer.done
            assert torch.equal(posted.tensors[0], torch.full_like(posted.tensors[0], tick))

    @staticmethod
    def peers(ends: list[Endpoint]) -> list[int]:
        return sorted({end.peer for end in ends})


@over_seeds(60)
def test_no_order_of_progress_gets_stuck(seed):
    plan = random_plan(seed)
    simulation = Simulation(plan, seed)
    simulation.run(ticks=8)
    for wire in simulation.wires.values():
        assert all(one.sends != other.sends for one, other in zip(*wire.posted, strict=False))
    assert simulation.sent == simulation.sent | {
        (end.edge, end.forward): 8 for me in plan.actors for end in plan.endpoints(me)
    }


def test_without_turns_two_ends_that_both_send_first_get_stuck():
    with pytest.raises(AssertionError, match="wait for ever"):
        Simulation(BOTH_WAYS, 0, OnDemand).run(ticks=3)


# Turns


EDGES = (Edge("a", "b"), Edge(SOURCE, "a"), Edge("a", LOSS), Edge("b", "a"), Edge(SOURCE, LOSS))


def test_turns_follow_the_evaluation_and_then_its_reverse():
    signals = [(1, True), (4, True), (0, True), (2, True), (3, True)]
    costates = [(2, False), (4, False), (0, False), (1, False), (3, False)]
    assert crossings(turns_of([(SOURCE, "a", "b", LOSS)]), EDGES) == (*signals, *costates)


def test_turns_go_island_by_island():
    source, losses, rest = [(1, True), (4, True)], [(0, True), (2, True), (2, False), (4, False)], [(3, True)]
    assert crossings(turns_of([(SOURCE,), ("a", LOSS), ("b",)]), EDGES) == (
        *source,
        *losses,
        (1, False),
        (3, False),
        *rest,
        (0, False),
    )


def test_messages_without_tensors_and_edges_within_an_actor_have_no_turn():
    plan = Plan((SOURCE, "a", "b"), {SOURCE: 2, "a": 0, "b": 0}, (Edge(SOURCE, "a", 0), Edge("a", "b", 0)))
    assert [(slot.endpoint.edge, slot.sends) for slot in slots_of(plan.crossings, plan.endpoints(0))] == [
        (0, False)
    ]
    assert [(slot.endpoint.edge, slot.sends) for slot in slots_of(plan.crossings, plan.endpoints(2))] == [
        (0, True)
    ]


def test_receives_are_posted_at_their_turn_before_they_are_needed():
    """The turns of a tick are: signal 1 of a->b, costate 4 of b->a, signal 3 of b->a, costate 2 of a->b."""
    wire = Wire()
    a, b = WireGroup(wire, 0), WireGroup(wire, 1)
    orders, transfers = [], []
    for me, pair in enumerate((a, b)):
        slots = slots_of(BOTH_WAYS.crossings, BOTH_WAYS.endpoints(me))
        transfers.append(PeerTransfers(pair, slots))
        orders.append(TransferOrder(slots, {1 - me: transfers[me]}))

    def send(me: int, which: int) -> None:
        end = BOTH_WAYS.endpoints(me)[which]
        orders[me].check(end)
        transfers[me].send(end, (torch.zeros(end.sends[0].shape, dtype=torch.float64),), 0.0)
        orders[me].sent()

    send(0, 0)
    assert a.story() == ["send 1"]
    send(1, 1)
    assert b.story() == ["receive 1", "receive 4", "send 3"]
    send(1, 0)
    assert b.story() == ["receive 1", "receive 4", "send 3", "send 2"]
    send(0, 1)
    assert a.story() == ["send 1", "send 4", "receive 3", "receive 2"]
    send(0, 0)
    assert a.story()[4:] == ["send 1"]


def test_what_is_sent_or_awaited_out_of_its_turn_is_an_error():
    slots = slots_of(BOTH_WAYS.crossings, BOTH_WAYS.endpoints(0))
    order = TransferOrder(slots, {1: PeerTransfers(WireGroup(Wire(), 0), slots)})
    to_b, from_b = BOTH_WAYS.endpoints(0)
    with pytest.raises(
        LinkError, match="edge b->a: a message was to be sent out of its turn, before that of a->b"
    ):
        order.check(from_b)
    with pytest.raises(
        LinkError, match="edge b->a: a message was awaited out of its turn, before that of a->b was"
    ):
        order.awaited(from_b)
    order.check(to_b)


def test_where_it_holds_up_nothing_receives_are_posted_as_far_as_the_other_end_may_be_ahead():
    plan = replace(BOTH_WAYS, edges=BOTH_WAYS.edges[:1])
    slots, end = slots_of(plan.crossings, plan.endpoints(1)), plan.endpoints(1)[0]
    pair = WireGroup(Wire(), 1, posts_ahead=True)
    transfers = PeerTransfers(pair, slots)
    assert pair.story() == ["receive 1"] * 7  # capacity 3
    assert transfers.take(end) is not None
    assert pair.story() == ["receive 1"] * 8
    transfers.due()
    assert pair.story() == ["receive 1"] * 8
