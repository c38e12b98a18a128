"""Tensors over torch.distributed: the bits that were sent arrive, over gloo and, where two GPUs are, over NCCL."""

import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from support.actor_plans import ROWS, Plan, random_plan
from support.link_kinds import together
from support.patience import patient

from hamdist.engine.message import Message, Token
from hamdist.network.graph import Edge
from hamdist.network.tick_order import Crossing
from hamdist.transport.base import (
    Endpoint,
    Form,
    Link,
    LinkError,
    Patience,
    PeerLostError,
    RefusedError,
)
from hamdist.transport.codec import Codec
from hamdist.transport.process_group import GlooGroup, NcclSupport, nccl_obstacle, nccl_support
from hamdist.transport.security import Station, fresh_keys
from hamdist.transport.torch_distributed import TorchLink, TorchWiring
from hamdist.transport.zeromq import ZeroMQWiring

HERE = "127.0.0.1"
PATIENCE = Patience(heartbeat_seconds=patient(10), progress_seconds=patient(60))
LIMIT_SECONDS = patient(120)  # for whatever must end
ONE_EDGE = (Crossing(4, True), Crossing(4, False))


def two_endpoints(
    forms: tuple[Form, ...], others: tuple[Form, ...] | None = None
) -> dict[int, list[Endpoint]]:
    """An edge a->b of index 4 that carries these tensors both ways; others: what its target believes."""
    others = forms if others is None else others
    return {
        0: [Endpoint(4, "a->b", True, 1, "the target", 3, ROWS, forms, forms)],
        1: [Endpoint(4, "a->b", False, 0, "the source", 3, ROWS, others, others)],
    }


PAIR = two_endpoints((Form((2,), torch.float32),))


def wired(
    crossings: Sequence[Crossing],
    actors: Sequence[int],
    patience: Patience = PATIENCE,
    hosts: Sequence[str] = (HERE,) * 4,
    generations: Sequence[int] = (1,) * 4,
) -> dict[int, TorchWiring]:
    """The wirings of several actors of this process."""
    keys = {actor: fresh_keys() for actor in actors}
    stations = {actor: Station(actor, hosts[actor], keys[actor].public) for actor in actors}
    wirings = {}
    for actor in actors:
        heads = ZeroMQWiring(stations[actor], stations, keys[actor], generations[actor], patience)
        wirings[actor] = TorchWiring(
            heads, stations[actor], stations, crossings, generations[actor], patience
        )
    return wirings


@contextmanager
def joined(
    wirings: dict[int, TorchWiring], ends: dict[int, list[Endpoint]]
) -> Iterator[dict[int, dict[int, Link]]]:
    """The links, by actor and edge."""
    try:
        addresses: dict[int, str] = {}
        for actor, wiring in wirings.items():
            addresses |= wiring.listen(ends[actor])
        joins = [lambda wiring=wiring: wiring.connect(addresses) for wiring in wirings.values()]
        yield dict(zip(wirings, together(*joins), strict=True))
    finally:
        together(*(wiring.close for wiring in wirings.values()))


def drawn(edge: int, forward: bool, tick: int, form: Form) -> torch.Tensor:
    """Random numbers that both ends can draw."""
    generator = torch.Generator().manual_seed(1000 * tick + 2 * edge + forward)
    return torch.randn(form.shape, dtype=form.dtype, generator=generator)


def play(plan: Plan, me: int, links: dict[int, Link], ticks: int, device: str = "cpu") -> int:
    """Goes through the ticks, and counts the messages whose bits are those that were sent."""
    ends, right = {end.edge: end for end in plan.endpoints(me)}, 0
    for tick in range(ticks):
        for what, edge, forward, after in plan.order(me):
            if what == "send":
                tensors = tuple(drawn(edge, forward, tick, form).to(device) for form in ends[edge].sends)
                links[edge].send(Message((Token(tick, tick, 1),), tensors, tick))
            elif tick >= after:
                message = links[edge].receive()
                wanted = [drawn(edge, forward, tick - after, form) for form in ends[edge].receives]
                assert message.tick == tick - after
                assert message.tokens == (Token(message.tick, message.tick, 1),)
                got = [tensor.cpu() for tensor in message.tensors]
                assert all(torch.equal(one, other) for one, other in zip(got, wanted, strict=True))
                right += 1
    return right


def messages_to_receive(plan: Plan, ticks: int) -> int:
    scripts = [step for me in plan.actors for step in plan.order(me)]
    return sum(max(0, ticks - after) for what, _, _, after in scripts if what == "receive")


def check_bits(plan: Plan, ticks: int, hosts: Sequence[str] = (HERE,) * 4, device: str = "cpu") -> None:
    """Plays a plan with every actor in a thread; "cuda:{me}" gives each a GPU."""
    devices = {me: device.format(me=me) for me in plan.actors}
    ends = {me: plan.endpoints(me, devices[me]) for me in plan.actors}
    with joined(wired(plan.crossings, plan.actors, hosts=hosts), ends) as links:
        plays = [lambda me=me: play(plan, me, links[me], ticks, devices[me]) for me in plan.actors]
        assert sum(together(*plays)) == messages_to_receive(plan, ticks) > 100


@pytest.mark.slow
@pytest.mark.parametrize("posts_ahead", [True, False], ids=["posted ahead", "posted as for NCCL"])
@pytest.mark.parametrize("seed", [1, 3, 9])
def test_several_actors_get_the_bits_that_were_sent(seed, posts_ahead, monkeypatch):
    monkeypatch.setattr(GlooGroup, "posts_ahead", posts_ahead)
    check_bits(random_plan(seed), ticks=30)


def test_actors_on_different_hosts_get_the_bits_that_were_sent():
    check_bits(random_plan(4), ticks=30, hosts=("127.0.0.2", "127.0.0.3", "127.0.0.2"))


@pytest.mark.parametrize(
    ("hosts", "listens"),
    [
        (("127.0.0.2", "127.0.0.2"), r"127\.0\.0\.1:\d+ ipc:"),
        (("127.0.0.2", "127.0.0.3"), r"127\.0\.0\.3:\d+ tcp://127\.0\.0\.3:"),
    ],
)
def test_it_listens_on_its_own_address_and_for_neighbours_on_its_host_on_loopback_only(hosts, listens):
    wirings = wired(ONE_EDGE, (0, 1), hosts=hosts)
    try:
        assert wirings[0].listen(PAIR[0]) == {}
        assert re.match(listens, wirings[1].listen(PAIR[1])[4])
    finally:
        together(*(wiring.close for wiring in wirings.values()))


def test_edges_that_are_not_among_the_crossings_go_whole_over_zeromq():
    with joined(wired((), (0, 1)), PAIR) as links:
        links[0][4].send(Message((Token(0),), (torch.ones(2),), 0))
        assert links[1][4].receive().tensors[0].tolist() == [1.0, 1.0]
        assert not isinstance(links[1][4], TorchLink)


def test_tensors_of_another_form_than_agreed_are_not_sent():
    with joined(wired(ONE_EDGE, (0, 1)), PAIR) as links:
        for tensors in [(torch.ones(3),), (torch.ones(2).double(),), (), (None, None)]:
            with pytest.raises(LinkError, match=r"edge a->b: tensors .* were to be sent, but it carries"):
                links[0][4].send(Message((Token(0),), tensors, 0))
        links[0][4].send(Message((Token(0),), (torch.ones(2),), 0))
        assert links[1][4].receive().tensors[0].tolist() == [1.0, 1.0]


def test_ends_that_expect_different_tensors_do_not_join():
    ends = two_endpoints((Form((2,), torch.float32),), (Form((3,), torch.float32),))
    expected = r"the target expects the signal of edge 4 a->b on cpu: torch.float32 \[3\] where this end has .* \[2\]"
    with pytest.raises(RefusedError, match=expected), joined(wired(ONE_EDGE, (0, 1)), ends):
        pass


def test_actors_of_different_starts_do_not_join():
    expected = "edge a->b: the target expects generation 2 where this end has generation 1"
    wirings = wired(ONE_EDGE, (0, 1), generations=(1, 2))
    with pytest.raises(RefusedError, match=expected), joined(wirings, PAIR):
        pass


def test_a_peer_that_never_joins_is_given_up():
    wirings = wired(ONE_EDGE, (0, 1), Patience(heartbeat_seconds=0.2, progress_seconds=0.3))
    addresses = {**wirings[0].listen(PAIR[0]), **wirings[1].listen(PAIR[1])}
    expected = r"edge a->b: no exchange of tensors with the target came about within 0.3 s"
    try:
        with pytest.raises(PeerLostError, match=expected):
            wirings[0].connect(addresses)
    finally:
        together(*(wiring.close for wiring in wirings.values()))


def test_a_head_whose_tensors_never_come_is_the_loss_of_its_sender():
    wirings = wired(ONE_EDGE, (0, 1), Patience(heartbeat_seconds=patient(1.0), progress_seconds=patient(60)))
    with joined(wirings, PAIR) as links:
        sender = links[0][4]
        head = Codec(sender.endpoint, 1).encode_head(Message((Token(0),), (torch.ones(2),), 0))
        sender._connection.send([head])
        expected = "edge a->b: the source went away, or was cut off, with tensors on their way"
        with pytest.raises(PeerLostError, match=expected):
            links[1][4].receive()


def test_nccl_needs_two_gpus_and_says_so():
    a, b, old = NcclSupport("GPU-a", True), NcclSupport("GPU-b", True), NcclSupport("GPU-c", False)
    assert nccl_obstacle(a, b) == ""
    assert nccl_obstacle(a, a) == "both share one GPU, and NCCL needs two"
    assert nccl_obstacle(b, old) == nccl_obstacle(old, b) == "a torch without NCCL is installed"
    assert nccl_obstacle(a, nccl_support(torch.device("cpu"))) == "one of them computes on the CPU"


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL needs two GPUs, and fewer are here")
@pytest.mark.parametrize("seed", [1, 2])
def test_two_gpus_get_the_bits_that_were_sent(seed):
    chance, ticks = random.Random(seed), 40
    edges = tuple(Edge(a, b, chance.randint(0, 3)) for a, b in [("n0", "n1"), ("n1", "n2"), ("n0", "n3")])
    back = (Edge("n3", "n0", 2, feedback=True),)
    plan = Plan(("n0", "n1", "n2", "n3"), {"n0": 0, "n1": 1, "n2": 0, "n3": 1}, edges + back)
    check_bits(plan, ticks, device="cuda:{me}")
