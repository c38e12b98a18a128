"""The loop of the stream's actor: it opens the stream, gives what enters, and announces cuts and the end.

After the last batch come the drain, the hold-out if there is one, and a tail in which every node hears of the final
tick. A stream that raises ends early: what had entered is learnt all the same.
"""

import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hamdist.cluster.ahead import GLANCE_SECONDS
from hamdist.cluster.cutter import CutSchedule, Cutter
from hamdist.cluster.feed import Fed, Feed, Pair
from hamdist.cluster.intake import Intake
from hamdist.cluster.journal import Journal
from hamdist.cluster.outcome import Progress, StreamOutcome, attributed, stream_failed, stream_opening
from hamdist.cluster.source_part import SourcePart
from hamdist.cluster.source_worker import SourceWorker
from hamdist.engine.device import peak_memory_bytes
from hamdist.engine.message import Message
from hamdist.engine.source import Given, Source
from hamdist.errors import UserError
from hamdist.transport.base import ClosedError, LinkError

LAST_CUT_SECONDS = 2.0  # for which a silent stream is waited for, to come to a last cut


class StreamWorker(SourceWorker):
    """open_feed: opens the stream.

    idle_seconds: after so long without a batch the network goes on for the ticks of a hold without one, so that nobody
    takes a stream that is silent for one that is lost; what was under way is learnt meanwhile.
    cuts: when to announce one; None: never. Where the end is asked for, one is announced, and batches enter until then.
    All methods belong to one thread, except `progress`, `whole`, `given_up`, `end` and `stop`.
    """

    def __init__(
        self,
        name: str,
        open_feed: Callable[[], Feed],
        idle_seconds: float = math.inf,
        profile: bool = False,
        cuts: CutSchedule | None = None,
    ) -> None:
        super().__init__(name, profile)
        self._idle_seconds, self._schedule = idle_seconds, cuts
        self._intake = Intake(open_feed, positions=cuts is not None)
        self._reading = self._timeline.span("read")
        self._ending = threading.Event()  # the user wants the end
        self._asked = threading.Event()  # no more is to be read
        self._unopened = threading.Event()  # nor is a first batch to be waited for
        self._soon = threading.Event()  # a cut out of turn
        self._source = Source(1, 1)
        self._start: SourcePart | None = None
        self._first: tuple[Tensor, Tensor | None] | None = None
        self._parts: deque[SourcePart] = deque()
        self._begin()

    def _begin(self) -> None:
        """Nothing has entered since the start, or since the cut that is gone back to."""
        self._cutter = Cutter(None, 0, 1, 0, 0, self._soon)
        self._position: Mapping[str, Any] = {} if self._start is None else self._start.stream
        self._ended = False  # nothing more enters to be learnt
        self._entered_ticks = 0  # until then
        self._learnt_ticks = 0  # drain included

    def first_batch(self) -> tuple[Tensor, Tensor | None]:
        """Opens the stream; the batch is presented later, like all others. After a `rewind` to a cut it is that of its
        part. Raises UserError.
        """
        if self._start is None or self._first is None:
            with stream_opening():
                self._first = self._intake.first(self._unopened)[:2]
        return self._first

    def keep_journal(self, folder: Path) -> None:
        """What enters is written down in this folder, if the stream cannot seek; before the first batch enters, and
        before a `rewind` that is to read it.
        """
        self._intake.journal = Journal(folder)

    def rewind(self, part: SourcePart | None) -> None:
        """Stands where the part was cut, None: at the start, opened anew; `listen` comes next. Raises UserError, and
        RunError where the stream cannot be read again.
        """
        self._start, self._stopped = part, False
        self._parts.clear()
        self._reset_traffic()
        if part is not None:
            self._first = part.first
        with stream_opening():
            self._intake.rewind(part)
        self._begin()

    def connect(self, addresses: Mapping[int, str]) -> None:
        """Joins those that hear the source."""
        super().connect(addresses)
        layout = self._layout
        hold, ticks = layout.outline.locality.hold, layout.stream_ticks
        self._source = Source(layout.inputs.shape[0], hold, ticks, layout.entrance, layout.outline.recent)
        if self._start is not None:
            self._source.state = self._start.state
            self.resume(self._start.state)
        self._intake.read_ahead(math.ceil(ticks / hold), layout.tick_bytes)
        step = math.lcm(hold, layout.chunk, layout.outline.execution.chunk)
        lead = layout.outline.reach + 1 + 2 * layout.chunk
        self._cutter = Cutter(self._schedule, self._source.tick, step, lead, ticks, self._soon)

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
        finally:
            self._intake.rest()

    def _learn(self) -> tuple[Exception, str] | None:
        """Every batch, then the drain; what the stream raised, if it did."""
        failure: tuple[Exception, str] | None = None
        try:
            for read in self._entering():
                self._give(self._messages(read))
                self._position = read[-1].position or self._position if read else self._position
                self._cut()
        except LinkError:
            raise
        except UserError as error:
            failure = error, traceback.format_exc()
        except BaseException as error:
            failure = stream_failed(error, self._source.samples), traceback.format_exc()
        self._cutter.void()
        self._entered_ticks, self._ended = self._source.tick, True
        self._give(self._source.silence(self._layout.outline.drain))
        self._learnt_ticks = self._source.tick
        return failure

    def _messages(self, read: Sequence[Fed]) -> Iterator[Message]:
        """Of batches, or of a silence; none: of one that is new."""
        if not read:
            return self._silent()
        if (first := read[0]).silent:
            return self._source.silence(self._before_a_cut(first))
        if self._first is None and first.batch is not None:
            self._first = first.batch[:2]
        return self._presented([each.batch for each in read])

    def _before_a_cut(self, silence: Fed) -> int:
        """Ticks of a silence that comes again; what is left of it comes after the cut."""
        ticks = min(silence.silent, self._cutter.left(self._source.tick))
        if ticks < silence.silent:
            self._intake.give_back(silence._replace(silent=silence.silent - ticks))
        return ticks

    def _presented(self, batches: Sequence[Pair | None], learn: bool = True) -> Iterator[Message]:
        return self._source.present(map(_with_targets, batches), learn)

    def _entering(self) -> Iterator[Sequence[Fed]]:
        """The batches, those that were read when the user asks for the end included, or those until a last cut; none
        where the stream has been idle.

        As many at a time as are there, and go in one message.
        """
        while not (self._ending.is_set() and self._cutter.ended()):
            self._traffic.cut = self._cutter.look(self._source.tick)
            with self._reading:
                read = self._read()
            if read is None:
                return
            yield read

    def _read(self) -> Sequence[Fed] | None:
        """The next batches; none where the stream is idle, None where it has ended."""
        began = time.monotonic()
        while not self._stopped:
            seconds = min(GLANCE_SECONDS, self._idle_seconds)
            try:
                source = self._source
                return self._intake.take(self._asked, self._room, seconds, source.tick, source.hold) or None
            except TimeoutError:
                waited = time.monotonic() - began
            if self._ending.is_set() and waited > LAST_CUT_SECONDS:
                return None
            if waited > self._idle_seconds:
                return ()
        raise ClosedError(f"{self.name} was stopped")

    @property
    def _room(self) -> int:
        """How many batches go into one message, until a chunk is whole, or a cut is reached."""
        layout, source = self._layout, self._source
        ticks = layout.stream_ticks - (source.tick - self._origin) % layout.chunk
        return max(1, min(ticks, self._cutter.left(source.tick)) // source.hold)

    def _cut(self) -> None:
        """Keeps the source's part of a cut that was reached.

        After a last batch that is short there is none: a run that is given more samples has a full one there.
        """
        source = self._source
        if not self._cutter.reached(source.tick) or source.samples % source.batch:
            return
        assert self._first is not None
        state = source.state._replace(signals=self.said())
        self._parts.append(SourcePart(state, self._position, self._first))
        self._intake.cut()

    def _test(self) -> None:
        holdout = self._intake.holdout()
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
        ticks = self._until(math.lcm(self._source.hold, self._layout.chunk), self._source.hold)
        self._intake.silent(self._source.tick, ticks)
        return self._source.silence(ticks)

    def _whole(self, ticks: int) -> int:
        """So many ticks or a few more, so that no message waits for company after them."""
        return self._until(self._layout.chunk, ticks)

    @property
    def _origin(self) -> int:
        """The tick that this generation begins with."""
        return 0 if self._start is None else self._start.tick

    def _until(self, multiple: int, ticks: int) -> int:
        """So many ticks, and those until such a multiple of ticks since the origin."""
        return ticks + -(self._source.tick - self._origin + ticks) % multiple

    def _outcome(self, error: Exception | None = None, details: str = "") -> StreamOutcome:
        return StreamOutcome(
            self._source.samples,
            self._entered_ticks if self._ended else self._source.tick,
            self._learnt_ticks or self._source.tick,
            error,
            details,
            peak_memory_bytes(),
            self._timeline.profile(self._source.tick),
            self._intake.skipped,
        )

    # From any thread

    def progress(self) -> Progress:
        """How far it is, and its parts of cuts that were reached since the last call."""
        cuts = tuple(self._parts.popleft() for _ in range(len(self._parts)))
        entered = self._entered_ticks if self._ended else None
        again = self._intake.send_again
        return Progress(self._source.tick, self._source.samples, entered, cuts=cuts, send_again=again)

    def whole(self, tick: int) -> None:
        """The cut of this tick is whole: none before it will be gone back to."""
        self._cutter.whole(tick)
        self._intake.whole(tick)

    def given_up(self, tick: int) -> None:
        """The cut of this tick will not be whole: others may be announced."""
        self._cutter.give_up(tick)

    def end(self) -> None:
        """No more batches, or no more than until a last cut; what has entered is learnt, and the run ends in order."""
        self._unopened.set()
        if self._schedule is None:
            self._asked.set()
        else:
            self._soon.set()
        self._ending.set()

    def stop(self) -> None:
        """Ends the loop at once."""
        self._unopened.set()
        super().stop()


def _with_targets(batch: Pair | None) -> Given:
    assert batch is not None
    inputs, targets, *flags = batch
    assert targets is not None, "checked with the first batch, and by the stream since"
    return inputs, targets, flags[0] if flags else None
