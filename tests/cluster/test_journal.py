"""The journal of a stream that cannot seek: what it gave comes again, ticks and bits, and nothing of it is lost."""

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.actors import ListFeed
from support.listeners import Tick, layout_of_chain, said, same
from support.samples import Batches
from torch import Tensor

from hamdist.cluster.cutter import CutSchedule
from hamdist.cluster.feed import Fed
from hamdist.cluster.journal import Journal
from hamdist.cluster.layout import Layout
from hamdist.cluster.source_part import SourcePart
from hamdist.cluster.stream_worker import StreamWorker
from hamdist.engine.message import Message
from hamdist.engine.state import SourceState
from hamdist.errors import RunError

GENERATOR = torch.Generator().manual_seed(3)
BATCHES: Batches = [
    (torch.randn(2, 3, generator=GENERATOR), torch.randint(4, (2,), generator=GENERATOR)) for _ in range(60)
]
CASES: dict[str, dict[str, Any]] = {
    "local": {"mode": "local"},
    "held": {"mode": "local", "hold": 3},
    "late, in chunks": {"delays": {"source->l0": 3, "l0->l1": 4, "l1->l2": 4}, "chunk": 4},
}


class Piped(ListFeed):
    """What was read of it is gone. Every so many batches it falls silent until the silence was told."""

    seeks = False

    def __init__(self, batches: Batches, silences: Callable[[], bool] = lambda: False) -> None:
        super().__init__(batches)
        self._coming, self._silent = iter(batches), silences

    def __iter__(self) -> Iterator[Any]:
        for batch in self._coming:
            if self._silent():
                QUIET.wait(0.02)
            self._done += 1
            yield batch


QUIET = threading.Event()  # nobody sets it


def piped(batches: Batches, folder: Path, every: int = 20, **more: Any) -> StreamWorker:
    worker = StreamWorker("the stream", partial(Piped, batches), cuts=CutSchedule(every), **more)
    worker.keep_journal(folder)
    return worker


def stopped(
    worker: StreamWorker, layout: Layout, at: int, whole: int
) -> tuple[dict[str, list[Tick]], list[SourcePart]]:
    """All it said until a message of tick `at`, in which it is stopped, and its parts of cuts, of which the first
    `whole` became whole.
    """
    parts: list[SourcePart] = []

    def ask(message: Message) -> None:
        for part in worker.progress().cuts:
            parts.append(part)
            if len(parts) <= whole:
                worker.whole(part.tick)
        if message.tick >= at:
            worker.stop()

    heard = said(worker, layout, ask)
    return {edge: listener.ticks for edge, listener in heard.by_edge.items()}, parts


@pytest.mark.parametrize("idle", [False, True], ids=["steady", "with silences"])
@pytest.mark.parametrize("case", CASES)
def test_what_was_said_is_said_again_and_then_the_stream_goes_on(
    case: str, idle: bool, tmp_path: Path
) -> None:
    """The process that reads it lives; nothing that it has read ahead is lost."""
    layout = layout_of_chain(**CASES[case])
    hold = layout.outline.locality.hold
    counted = iter(range(1000))
    feed = partial(Piped, BATCHES, lambda: idle and next(counted) % 9 == 8)
    worker = StreamWorker("the stream", feed, 0.001 if idle else 60.0, cuts=CutSchedule(8 * hold))
    worker.keep_journal(tmp_path)
    worker.first_batch()
    before, parts = stopped(worker, layout, 45 * hold, whole=1)
    assert len(parts) > 1
    worker.rewind(parts[0])
    again = said(worker, layout)
    for edge, listener in again.by_edge.items():
        known = before[edge][parts[0].tick :]
        assert len(known) > 8
        assert same(listener.ticks[: len(known)], known)
        entered = [tick for tick in before[edge][: parts[0].tick] + listener.ticks if tick[0].valid]
        place = 1 if edge.endswith("loss") else 0
        assert len(entered) == hold * len(BATCHES)
        for number, (_, (tensor,)) in enumerate(entered):
            assert tensor is not None
            assert torch.equal(tensor, BATCHES[number // hold][place])


def test_another_cut_is_made_while_it_comes_again(tmp_path: Path) -> None:
    """A silence that lasts beyond it is cut, too; whoever goes back to that cut hears the same."""
    layout = layout_of_chain(mode="nonlocal")
    journal = Journal(tmp_path)
    for number in range(30):
        ticks = 1 if number < 29 else 50
        journal.add(2 * number, 1, Fed(BATCHES[number], {"done": number + 1}))
        journal.add(2 * number + 1, ticks, Fed(None, silent=ticks))
    journal.close()
    first = piped(BATCHES[30:], tmp_path, every=15)
    first.rewind(SourcePart(SourceState(), {"done": 0}, BATCHES[0]))
    before, parts = stopped(first, layout, 10_000, whole=10_000)
    assert [part.tick for part in parts[:4]] == [15, 30, 45, 60]
    assert [part.stream["done"] for part in parts[:4]] == [8, 15, 23, 30]
    assert [tick[0].valid for tick in before["source->l0"][58:110]] == [True, *[False] * 50, True]
    plain = [tick for tick in before["source->l0"] if tick[0].valid]
    assert all(torch.equal(_tensor(tick), batch[0]) for tick, batch in zip(plain, BATCHES, strict=True))


def _tensor(tick: Tick) -> Tensor:
    (tensor,) = tick[1]
    assert tensor is not None
    return tensor


def test_a_new_process_replays_the_journal_and_says_what_to_send_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = layout_of_chain(mode="local")
    plain = said(whole_one(), layout)
    worker = piped(BATCHES, tmp_path)
    worker.first_batch()
    before, parts = stopped(worker, layout, 47, whole=1)
    entered = len(before["source->l0"])
    other = piped(BATCHES[entered:], tmp_path)  # sent again from there on
    with caplog.at_level(logging.WARNING, "hamdist"):
        other.rewind(parts[0])
    assert f"send it again from sample {entered} on" in caplog.text
    assert other.progress().send_again == entered
    again = said(other, layout)
    for edge, listener in again.by_edge.items():
        assert same(listener.ticks, plain.by_edge[edge].ticks[parts[0].tick :])


def whole_one() -> StreamWorker:
    worker = StreamWorker("the stream", partial(ListFeed, BATCHES))
    worker.first_batch()
    return worker


def test_a_torn_last_record_is_dropped_and_sent_again(tmp_path: Path) -> None:
    layout = layout_of_chain(mode="local")
    plain = said(whole_one(), layout)
    for cut in (1, 7, 30, 200):
        folder = tmp_path / str(cut)
        worker = piped(BATCHES, folder)
        worker.first_batch()
        before, parts = stopped(worker, layout, 47, whole=1)
        entered = len(before["source->l0"])
        newest = max(folder.iterdir())
        newest.write_bytes(newest.read_bytes()[:-cut])
        other = piped(BATCHES[entered - 1 :], folder)
        other.rewind(parts[0])
        assert other.progress().send_again == entered - 1
        again = said(other, layout)
        assert same(again.by_edge["source->l0"].ticks, plain.by_edge["source->l0"].ticks[parts[0].tick :])


@pytest.mark.parametrize("seed", range(40))
def test_a_changed_record_is_never_given(seed: int, tmp_path: Path) -> None:
    """What is before it is; and what follows it in another file is not taken for what was next."""
    journal = Journal(tmp_path)
    for number, batch in enumerate(BATCHES[:12]):
        if number == 6:
            journal.cut()
        journal.add(number, 1, Fed(batch, {"done": number}))
    journal.close()
    draw = torch.Generator().manual_seed(seed)
    path = sorted(tmp_path.iterdir())[seed % 2]
    data = bytearray(path.read_bytes())
    data[int(torch.randint(len(data), (1,), generator=draw))] ^= 1 << int(
        torch.randint(8, (1,), generator=draw)
    )
    path.write_bytes(data)
    came = []
    try:
        came.extend(record.fed for record in Journal(tmp_path).since(0))
    except RunError as error:
        assert "the stream's journal lacks what entered from tick" in str(error)  # noqa: PT017
        assert seed % 2 == 0
    assert len(came) < 12
    for number, fed in enumerate(came):
        assert fed.batch is not None
        assert torch.equal(fed.batch[0], BATCHES[number][0])


def test_what_is_older_than_a_whole_cut_goes(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for tick in range(12):
        if tick % 3 == 0:
            journal.cut()
        journal.add(tick, 1, Fed(BATCHES[tick]))
    assert [path.stem for path in sorted(tmp_path.iterdir())] == [f"{first:012d}" for first in (0, 3, 6, 9)]
    journal.forget(7)
    assert [record.tick for record in journal.since(7)] == [7, 8, 9, 10, 11]
    assert [path.stem for path in sorted(tmp_path.iterdir())] == [f"{first:012d}" for first in (6, 9)]
    with pytest.raises(RunError, match="lacks what entered from tick 5 to 5"):
        list(journal.since(5))
    journal.forget(1000)
    assert len(list(tmp_path.iterdir())) == 1  # it is being written
    journal.close()


def test_a_cut_in_the_midst_of_a_silence_is_followed_by_the_rest_of_it(tmp_path: Path) -> None:
    """Such a cut is made where a silence comes again, after a restart with other chunks, say."""
    journal = Journal(tmp_path)
    journal.add(0, 1, Fed(BATCHES[0]))
    journal.add(1, 50, Fed(None, silent=50))
    journal.add(51, 1, Fed(BATCHES[1]))
    assert [(record.tick, record.ticks) for record in journal.since(30)] == [(30, 21), (51, 1)]
    assert next(journal.since(30)).fed.silent == 21


def test_what_another_run_left_goes_with_the_first_record(tmp_path: Path) -> None:
    older = Journal(tmp_path)
    for tick in (0, 7):
        older.cut()
        older.add(tick, 7, Fed(None, silent=7))
    older.close()
    journal = Journal(tmp_path)
    journal.add(0, 1, Fed(BATCHES[0]))
    journal.close()
    assert [record.tick for record in Journal(tmp_path).since(0)] == [0]


def test_a_full_disk_is_told_of_once_and_the_gap_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.add(0, 1, Fed(BATCHES[0]))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "hamdist"):
        patch.setattr(journal, "_write", full)
        for tick in range(1, 4):
            journal.add(tick, 1, Fed(BATCHES[tick]))
    assert caplog.text.count("No space left") == 1
    with pytest.raises(RunError, match="lacks what entered from tick 1 to 3"):
        list(journal.since(0))
    journal.cut()  # at tick 4, from which another go back is possible
    journal.add(4, 1, Fed(BATCHES[4]))
    assert [record.tick for record in journal.since(4)] == [4]
    with pytest.raises(RunError, match="lacks what entered from tick 1 to 3"):
        list(journal.since(0))


def test_a_stream_that_cannot_seek_is_not_read_again_without_a_journal() -> None:
    worker = StreamWorker("the stream", partial(Piped, BATCHES), cuts=CutSchedule(20))
    worker.first_batch()
    _, parts = stopped(worker, layout_of_chain(mode="local"), 47, whole=1)
    with pytest.raises(RunError, match="the stream cannot seek, and no journal of it was kept"):
        worker.rewind(parts[0])


def test_a_new_process_without_one_goes_on_right_after_the_cut(tmp_path: Path) -> None:
    layout = layout_of_chain(mode="local")
    plain = said(whole_one(), layout)
    worker = piped(BATCHES, tmp_path)
    worker.first_batch()
    _, parts = stopped(worker, layout, 47, whole=1)
    other = StreamWorker("the stream", partial(Piped, BATCHES[parts[0].tick :]))
    other.rewind(parts[0])
    assert other.progress().send_again == parts[0].tick
    again = said(other, layout).by_edge["source->l0"].ticks
    assert same(again, plain.by_edge["source->l0"].ticks[parts[0].tick :])


def test_a_stream_that_seeks_keeps_none(tmp_path: Path) -> None:
    worker = StreamWorker("the stream", partial(ListFeed, BATCHES), cuts=CutSchedule(20))
    worker.keep_journal(tmp_path)
    worker.first_batch()
    said(worker, layout_of_chain(mode="local"))
    assert list(tmp_path.iterdir()) == []
