"""The loop of the stream's actor: it opens the stream, gives what enters, and announces the end.

After the last batch come the drain, the hold-out if there is one, and a tail in which every node hears of the final
tick. A stream that raises ends early: what had entered is learnt all the same.
"""

import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from torch import Tensor

from hamdist.cluster.outcome import Progress, StreamOutcome, attributed, stream_failed, stream_opening
from hamdist.cluster.source_worker import SourceWorker
from hamdist.engine.device import peak_memory_bytes
from hamdist.engine.message import Message
from hamdist.engine.source import Given, Source
from hamdist.errors import StreamError, UserError
from hamdist.transport.base import ClosedError, LinkError

Pair = tuple[Tensor, Tensor | None] | tuple[Tensor, Tensor | None, Tensor | None]
Pairs = Iterator[Pair]
Item = TypeVar("Item")
GLANCE_SECONDS = 0.1  # between two looks at whether the end was asked for
AHEAD = 2  # batches read before they are needed, or those of so many messages, where they are small
AHEAD_BYTES = 2 * 2**20


class StreamWorker(SourceWorker):
    """open_batches: gives the batches to learn from, and a function that gives those of the hold-out, or None.

    idle_seconds: after so long without a batch the network goes on for the ticks of a hold without one, so that nobody
    takes a stream that is silent for one that is lost; what was under way is learnt meanwhile.
    All methods belong to one thread, except `progress`, `end` and `stop`.
    """

    def __init__(
        self,
        name: str,
        open_batches: Callable[[], tuple[Pairs, Callable[[], Pairs | None]]],
        idle_seconds: float = math.inf,
        profile: bool = False,
    ) -> None:
        super().__init__(name, profile)
        self._idle_seconds = idle_seconds
        self._open_batches = open_batches
        self._reading = self._timeline.span("read")
        self._asked = threading.Event()  # for the end
        self._source = Source(1, 1)
        self._ended = False  # nothing more enters to be learnt
        self._entered_ticks = 0  # until then
        self._learnt_ticks = 0  # drain included
        self._first: list[Pair] = []

    def first_batch(self) -> tuple[Tensor, Tensor | None]:
        """Opens the stream; the batch is presented later, like all others. Raises UserError."""
        with stream_opening():
            batches, self._holdout = self._open_batches()
            self._batches = Ahead(batches, AHEAD)
            first = self._batches.take(self._asked, 1)
        if not first:
            raise StreamError("the run was ended before the first sample came")
        self._first = first
        return first[0][:2]

    def connect(self, addresses: Mapping[int, str]) -> None:
        """Joins those that hear the source."""
        super().connect(addresses)
        layout = self._layout
        rows, outline = layout.inputs.shape[0], layout.outline
        self._source = Source(
            rows, outline.locality.hold, layout.stream_ticks, layout.entrance, outline.recent
        )
        messages = AHEAD * math.ceil(layout.stream_ticks / self._source.hold)
        self._batches.count = max(AHEAD, min(messages, AHEAD_BYTES // layout.tick_bytes))

    def run(self) -> StreamOutcome:
        """From the first batch to the final tick; whatever goes wrong is in the outcome."""
        self._timeline.start()
        try:
            failure = self._learn()
            if failure is None:
                self._test()
            self._close()
            return self._outcome(*failure) if failure else self._outcome()
        except BaseException as error:
            if isinstance(error, ClosedError) and self._stopped:
                return self._outcome()
            self.stop()
            return self._outcome(attributed(error, self.name, self._source.tick), traceback.format_exc())

    def _learn(self) -> tuple[Exception, str] | None:
        """Every batch, then the drain; what the stream raised, if it did."""
        failure: tuple[Exception, str] | None = None
        try:
            for batches in self._unasked():
                self._give(self._presented(batches) if batches else self._silent())
        except LinkError:
            raise
        except UserError as error:
            failure = error, traceback.format_exc()
        except BaseException as error:
            failure = stream_failed(error, self._source.samples), traceback.format_exc()
        self._entered_ticks, self._ended = self._source.tick, True
        self._give(self._source.silence(self._layout.outline.drain))
        self._learnt_ticks = self._source.tick
        return failure

    def _presented(self, batches: Sequence[Pair], learn: bool = True) -> Iterator[Message]:
        return self._source.present(map(_with_targets, batches), learn)

    def _unasked(self) -> Iterator[Sequence[Pair]]:
        """The batches, the first one again, those that were read when the user asks for the end included; none where
        the stream has been idle.

        As many at a time as are there, and go in one message.
        """
        yield self._first
        while True:
            try:
                with self._reading:
                    batches = self._batches.take(self._asked, self._room, self._idle_seconds)
            except TimeoutError:
                yield ()
                continue
            if not batches:
                return
            yield batches

    @property
    def _room(self) -> int:
        """How many batches go into one message, until a chunk is whole."""
        layout = self._layout
        return max(1, (layout.stream_ticks - self._source.tick % layout.chunk) // self._source.hold)

    def _test(self) -> None:
        holdout = self._holdout()
        if holdout is not None:
            self._source.begin_episode()
            for batch in holdout:
                self._give(self._presented([batch], learn=False))
            self._give(self._source.silence(self._layout.outline.flush))

    def _close(self) -> None:
        """Ticks of silence that tell every node of the last of them."""
        ticks = self._whole(self._layout.outline.reach + 1)
        self._traffic.final = self._source.tick + ticks - 1
        self._give(self._source.silence(ticks))

    def _silent(self) -> Iterator[Message]:
        """Whole holds, so that batches go on to begin at multiples of one, and whole messages."""
        whole = math.lcm(self._source.hold, self._layout.chunk)
        return self._source.silence(self._source.hold + -(self._source.tick + self._source.hold) % whole)

    def _whole(self, ticks: int) -> int:
        """So many ticks or a few more, so that no message waits for company after them."""
        return ticks + -(self._source.tick + ticks) % self._layout.chunk

    def _outcome(self, error: Exception | None = None, details: str = "") -> StreamOutcome:
        return StreamOutcome(
            self._source.samples,
            self._entered_ticks if self._ended else self._source.tick,
            self._learnt_ticks or self._source.tick,
            error,
            details,
            peak_memory_bytes(),
            self._timeline.profile(self._source.tick),
        )

    # From any thread

    def progress(self) -> Progress:
        """How far it is."""
        return Progress(self._source.tick, self._source.samples, self._entered_ticks if self._ended else None)

    def end(self) -> None:
        """No more batches; what has entered is learnt, and the run ends in order."""
        self._asked.set()

    def stop(self) -> None:
        """Ends the loop at once."""
        self._asked.set()
        super().stop()


def _with_targets(batch: Pair) -> Given:
    inputs, targets, *flags = batch
    assert targets is not None, "checked with the first batch, and by the stream since"
    return inputs, targets, flags[0] if flags else None


class Ahead(Generic[Item]):
    """Reads an iterator in a thread of its own, so that nobody who waits for it is deaf.

    count: items that it is ahead. It goes on when half of them are taken, and hands over what there is: between two
    threads that take turns at every item, Python spends more than most items are worth.
    """

    def __init__(self, items: Iterator[Item], count: int) -> None:
        self.count = count
        self._read: deque[Item] = deque()
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._pull, args=(items,), daemon=True, name="hamdist-stream").start()

    def _pull(self, items: Iterator[Item]) -> None:
        error: BaseException | None = None
        try:
            for item in items:
                with self._changed:
                    if self._ended:
                        return
                    self._read.append(item)
                    self._changed.notify()
                    if len(self._read) >= self.count:
                        self._changed.wait_for(lambda: len(self._read) <= self.count // 2)
        except BaseException as raised:
            error = raised
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify()

    def take(self, asked: threading.Event, most: int, seconds: float = math.inf) -> list[Item]:
        """The next items, as many as are there and at most so many; none at the end. No more are read once `asked` is
        set.

        Raises what the iterator raised, and TimeoutError where nothing came for so many seconds.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while not (self._read or self._ended or asked.is_set()):
                if not self._changed.wait(GLANCE_SECONDS) and time.monotonic() > deadline:
                    raise TimeoutError
            self._ended |= asked.is_set()
            taken = [self._read.popleft() for _ in range(min(most, len(self._read)))]
            self._changed.notify()
            if not taken and self._error is not None:
                raise self._error
            return taken
