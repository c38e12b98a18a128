"""The source's side of a cut: announced far enough ahead, kept when it is reached, and gone back to, bit for bit."""

import math
import threading
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest
import torch
from support.actors import ListFeed
from support.listeners import ROWS, layout_of_chain, said, same
from torch import Tensor

from hamdist.cluster.cutter import CutSchedule, Cutter
from hamdist.cluster.feed import Feed
from hamdist.cluster.layout import Layout
from hamdist.cluster.source_part import SourcePart
from hamdist.cluster.stream_worker import StreamWorker
from hamdist.engine.encoding import decode, encode
from hamdist.engine.message import Message

pytestmark = pytest.mark.usefixtures("one_fitter")

Pair = tuple[Tensor, Tensor]
CASES: dict[str, dict[str, Any]] = {
    "instantaneous": {"mode": "nonlocal"},
    "local": {"mode": "local"},
    "held": {"mode": "local", "hold": 3},
    "late": {"mode": "local", "delays": {"source->l0": 2}},
    "in chunks": {"delays": {"l0->l1": 4, "l1->l2": 4}, "chunk": 4},
    "held, late, in chunks": {
        "delays": {"source->l0": 3, "l0->l1": 4, "l1->l2": 4},
        "chunk": 4,
        "hold": 3,
    },
}
EVERY = CutSchedule(every_ticks=20)


def drawn(number: int, last: int = ROWS) -> list[Pair]:
    """So many batches, the last one of fewer rows."""
    generator = torch.Generator().manual_seed(7)
    sizes = [ROWS] * (number - 1) + [last]
    return [
        (torch.randn(rows, 3, generator=generator), torch.randint(4, (rows,), generator=generator))
        for rows in sizes
    ]


def worker_of(
    feed: list[Pair] | Iterator[Pair], cuts: CutSchedule | None = EVERY, **more: Any
) -> StreamWorker:
    worker = StreamWorker("the stream", partial(ListFeed, feed), cuts=cuts, **more)
    worker.first_batch()
    return worker


def parts_of(worker: StreamWorker, layout: Layout, whole: bool = True) -> tuple[Any, list[SourcePart]]:
    """What it says, and its parts of cuts, each whole at once."""
    parts: list[SourcePart] = []

    def ask(_: Message) -> None:
        parts.extend(worker.progress().cuts)
        if whole and parts:
            worker.whole(parts[-1].tick)

    listeners = said(worker, layout, ask)
    parts.extend(worker.progress().cuts)
    return listeners, parts


@pytest.mark.parametrize("case", CASES)
def test_a_cut_adds_no_tick_and_is_announced_before_anybody_has_passed_it(case: str) -> None:
    layout, batches = layout_of_chain(**CASES[case]), drawn(43, last=1)
    plain = said(worker_of(batches, None), layout)
    listeners, parts = parts_of(worker_of(batches), layout)
    for edge, listener in listeners.by_edge.items():
        assert same(listener.ticks, plain.by_edge[edge].ticks)
    hold, chunk = layout.outline.locality.hold, layout.chunk
    announced = {message.cut: message.tick for message in reversed(listeners.messages) if message.cut >= 0}
    assert [part.tick for part in parts] == sorted(announced)[: len(parts)]
    assert len(parts) >= len(announced) - 1 >= 1
    for tick, since in announced.items():
        assert tick % math.lcm(hold, chunk) == 0
        assert tick >= since + layout.outline.reach + 1 + 2 * chunk
    for part in parts:
        assert part.stream == {"done": part.tick // hold}
        assert part.state.samples == ROWS * (part.tick // hold)


@pytest.mark.parametrize("anew", [False, True], ids=["the same worker", "a new one"])
@pytest.mark.parametrize("case", CASES)
def test_what_follows_a_cut_is_said_again_bit_for_bit(case: str, anew: bool) -> None:
    layout, batches = layout_of_chain(**CASES[case]), drawn(43, last=1)
    plain = said(worker_of(batches, None), layout)
    worker = worker_of(batches)
    _, parts = parts_of(worker, layout)
    assert parts
    for part in reversed(parts):
        if anew:
            worker = StreamWorker("the stream", partial(ListFeed, batches), cuts=EVERY)
        worker.rewind(_stored(part))
        assert torch.equal(worker.first_batch()[0], batches[0][0])
        again = said(worker, layout)
        for edge, listener in again.by_edge.items():
            assert same(listener.ticks, plain.by_edge[edge].ticks[part.tick :]), (edge, part.tick)
    worker = StreamWorker("the stream", partial(ListFeed, batches), cuts=EVERY)
    worker.rewind(None)
    assert same(*(each.by_edge["source->l0"].ticks for each in (said(worker, layout), plain)))
    assert torch.equal(worker.progress().cuts[0].first[0], batches[0][0])


def _stored(part: SourcePart) -> SourcePart:
    """As it comes back from a file."""
    state, stream, first = decode(encode((part.state, dict(part.stream), part.first)))
    return SourcePart(state, stream, first)


def test_a_delayed_edge_has_said_what_is_under_way() -> None:
    layout = layout_of_chain(**CASES["late"])
    _, parts = parts_of(worker_of(drawn(40)), layout)
    for part in parts:
        under_way = [token for message in part.state.signals["source->l0"] for token in message.tokens]
        assert [token.tick for token in under_way] == [part.tick - 2, part.tick - 1]


def test_a_cut_that_the_stream_does_not_reach_is_none() -> None:
    layout = layout_of_chain(mode="local")
    for number in range(1, 60):
        worker = worker_of(drawn(number), CutSchedule(every_ticks=1))
        _, parts = parts_of(worker, layout)
        assert all(part.tick <= number for part in parts)


def test_two_cuts_at_most_are_waited_for() -> None:
    worker, layout = worker_of(drawn(400)), layout_of_chain(mode="local")
    _, parts = parts_of(worker, layout, whole=False)
    assert len(parts) == 2
    worker.rewind(None)
    _, parts = parts_of(worker, layout)
    assert len(parts) > 10


def test_a_cut_that_will_never_be_whole_is_not_waited_for() -> None:
    """A disk that is full for a while does not end all checkpoints."""
    worker, layout = worker_of(drawn(400)), layout_of_chain(mode="local")
    parts: list[SourcePart] = []

    def ask(_: Message) -> None:
        for part in worker.progress().cuts:
            parts.append(part)
            worker.given_up(part.tick)

    said(worker, layout, ask)
    assert len(parts) > 10


def test_the_next_cut_comes_when_another_is_whole() -> None:
    soon, now = threading.Event(), [0.0]
    cutter = Cutter(CutSchedule(every_seconds=5.0), 8, 4, 7, 1, soon, lambda: now[0])
    assert cutter.look(8) == -1
    now[0] = 5.0
    assert [cutter.look(tick) for tick in (9, 12)] == [16, 16]
    assert [cutter.reached(tick) for tick in (12, 16)] == [False, True]
    assert cutter.look(16) == -1
    now[0] = 10.0
    assert cutter.look(17) == 24
    assert cutter.reached(24)
    now[0] = 100.0
    assert cutter.look(24) == -1  # two are awaited
    cutter.whole(16)
    assert cutter.look(24) == 32
    assert cutter.reached(32)
    now[0] = 200.0
    assert cutter.look(32) == -1
    cutter.give_up(32)  # no room on the disk, say
    assert cutter.look(32) == 40


def test_a_cut_out_of_turn() -> None:
    soon = threading.Event()
    cutter = Cutter(CutSchedule(), 0, 2, 3, 1, soon)
    assert cutter.look(100) == -1
    soon.set()
    assert cutter.look(100) == 104
    soon.set()
    assert cutter.look(101) == 104  # one is under way
    assert cutter.reached(104)
    assert cutter.look(104) == 108
    cutter.void()
    assert cutter.look(105) == -1


def test_whoever_asks_for_the_end_gets_a_last_cut() -> None:
    """Batches enter until then; what follows are those that come after it."""
    layout = layout_of_chain(mode="local")
    batches = drawn(5000)
    worker = worker_of(batches, CutSchedule())
    plain = said(worker_of(batches, None), layout)

    def ask(message: Message) -> None:
        if message.tick == 30:
            worker.end()

    listeners = said(worker, layout, ask)
    (part,) = worker.progress().cuts
    assert part.tick > 30
    entered = [tick for tick in listeners.by_edge["source->l0"].ticks if tick[0].valid]
    assert same(entered, plain.by_edge["source->l0"].ticks[: part.tick])
    other = StreamWorker("the stream", partial(ListFeed, batches))
    other.rewind(part)
    assert same(
        said(other, layout).by_edge["source->l0"].ticks, plain.by_edge["source->l0"].ticks[part.tick :]
    )


def test_a_silent_stream_ends_without_a_last_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hamdist.cluster.stream_worker.LAST_CUT_SECONDS", 0.0)
    layout, gate = layout_of_chain(mode="local"), threading.Event()

    def few() -> Iterator[Pair]:
        yield from drawn(5)
        gate.wait()

    worker = worker_of(few(), CutSchedule())

    def ask(message: Message) -> None:
        if message.tick == 4:
            worker.end()

    said(worker, layout, ask)
    gate.set()
    assert worker.progress().cuts == ()
    assert worker.progress().samples == 5 * ROWS


def test_a_silent_stream_reaches_a_cut_by_its_silent_ticks() -> None:
    layout, gate = layout_of_chain(mode="local"), threading.Event()

    def few() -> Iterator[Pair]:
        yield from drawn(5)
        gate.wait()

    worker = worker_of(few(), CutSchedule(every_ticks=8), idle_seconds=0.0)
    parts: list[SourcePart] = []

    def ask(_: Message) -> None:
        for part in worker.progress().cuts:
            parts.append(part)
            worker.whole(part.tick)
            if part.stream == {"done": 5}:
                gate.set()

    said(worker, layout, ask)
    assert all(part.state.samples == part.stream["done"] * ROWS < part.tick * ROWS for part in parts[-1:])
    assert parts[-1].stream == {"done": 5}


def test_a_stream_worker_that_was_stopped_goes_on_after_a_rewind() -> None:
    layout, batches = layout_of_chain(mode="local"), drawn(60)
    plain = said(worker_of(batches, None), layout)
    worker = worker_of(batches)
    parts: list[SourcePart] = []

    def ask(message: Message) -> None:
        parts.extend(worker.progress().cuts)
        if message.tick == 45:
            worker.stop()

    said(worker, layout, ask)
    assert not worker.progress().cuts
    worker.rewind(parts[-1])
    again = said(worker, layout).by_edge["source->l0"].ticks
    assert same(again, plain.by_edge["source->l0"].ticks[parts[-1].tick :])


def test_no_position_is_asked_for_where_nobody_wants_a_cut() -> None:
    class Costly(ListFeed):
        def state_dict(self) -> dict[str, Any]:
            raise AssertionError("not to be asked")

    def opened() -> Feed:
        return Costly(drawn(3))

    worker = StreamWorker("the stream", opened)
    worker.first_batch()
    said(worker, layout_of_chain(mode="local"))


def test_an_older_reader_reads_no_more() -> None:
    read: list[int] = []
    generator = count()

    def endless() -> Iterator[Pair]:
        for batch in drawn(100_000):
            read.append(next(generator))
            yield batch

    worker = worker_of(endless())
    older = worker._intake._reading
    worker.rewind(None)
    assert older.take(threading.Event(), 5) == []
    worker.stop()
