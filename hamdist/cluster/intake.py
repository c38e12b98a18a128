"""What enters a network, batch by batch: read ahead from the stream, and again from an earlier point where need be."""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from hamdist.cluster.ahead import Ahead
from hamdist.cluster.feed import Fed, Feed, Pair, Pairs, fed
from hamdist.cluster.journal import Journal, Record
from hamdist.cluster.source_part import SourcePart
from hamdist.errors import RunError, StreamError

AHEAD = 2  # batches read before they are needed, or those of so many messages, where they are small
AHEAD_BYTES = 2 * 2**20
SEND_AGAIN = "the stream cannot seek: send it again from sample %d on, the first being 0"
_log = logging.getLogger(__name__)


class Intake:
    """open_feed: opens the stream.  positions: whether anybody wants to know where it is.

    journal: keeps what a stream gave that cannot seek; one that seeks is opened anew instead.  send_again: the sample
    that whoever sends it must begin with, where the process that read it before is gone; None: nobody has to.
    """

    def __init__(self, open_feed: Callable[[], Feed], positions: bool) -> None:
        self._open_feed, self._positions = open_feed, positions
        self._feed: Feed | None = None
        self._batches: Ahead[Fed] | None = None
        self._again: Iterator[Fed] = iter(())  # what entered once, and enters again first
        self._left: deque[Fed] = deque()  # of that, what was taken and given back
        self.journal: Journal | None = None
        self.send_again: int | None = None

    def first(self, asked: threading.Event) -> Pair:
        """Opens the stream; its first batch, which is presented later, like all others."""
        batches = self._open()
        taken = batches.take(asked, 1)
        if not taken:
            raise StreamError("the run was ended before the first sample came")
        batches.give_back(taken[0])
        assert taken[0].batch is not None
        return taken[0].batch

    def take(
        self, asked: threading.Event, most: int, seconds: float = math.inf, tick: int = 0, hold: int = 1
    ) -> list[Fed]:
        """As of what reads ahead; or one silence that was before.  tick: at which they enter, for `hold` ticks each."""
        if again := self._taken_again(most):
            return again
        taken = self._reading.take(asked, most, seconds)
        for number, each in enumerate(taken):
            self._note(tick + number * hold, hold, each)
        return taken

    def give_back(self, rest: Fed) -> None:
        """Of a silence that was before, what is left of it; it is the next to be taken."""
        self._left.appendleft(rest)

    def silent(self, tick: int, ticks: int) -> None:
        """The stream gives nothing for so many ticks."""
        self._note(tick, ticks, Fed(None, None, ticks))

    def cut(self) -> None:
        """What enters next follows a cut."""
        if self.journal is not None:
            self.journal.cut()

    def rest(self) -> None:
        """Nothing enters for a while."""
        if self.journal is not None:
            self.journal.close()

    def whole(self, tick: int) -> None:
        """That cut is whole: nobody goes back to what was before; from any thread."""
        if self.journal is not None:
            self.journal.forget(tick)

    def read_ahead(self, messages: int, tick_bytes: int) -> None:
        """messages: how many of them are to be read before they are needed."""
        self._reading.count = max(AHEAD, min(AHEAD * messages, AHEAD_BYTES // tick_bytes))

    @property
    def skipped(self) -> Mapping[str, int]:
        """As of the stream."""
        return {} if self._feed is None else self._feed.skipped

    def holdout(self) -> Pairs | None:
        """The batches of the hold-out, where there is one."""
        assert self._feed is not None
        return self._feed.holdout()

    def rewind(self, part: SourcePart | None) -> None:
        """Goes on where the part was cut; None: from the start. Raises UserError, RunError."""
        self._again, self._left = iter(()), deque()
        if self._feed is not None and not self._feed.seeks:
            self._replay(part)
            return
        if self._batches is not None:
            self._batches.close()
        self._open(part)

    def _open(self, part: SourcePart | None = None) -> Ahead[Fed]:
        self._feed = feed = self._open_feed()
        if part is not None:
            feed.load_state_dict(part.stream)
            if not feed.seeks:
                self._follow(feed, None if self.journal is None else self._replay(part))
        self._batches = Ahead(fed(feed, self._positions), AHEAD)
        return self._batches

    def _replay(self, part: SourcePart | None) -> Record | None:
        """What has entered since the cut enters again, as the journal has it; the last batch of that."""
        if self.journal is None:
            raise RunError("the stream cannot seek, and no journal of it was kept: start the run again")
        tick, last = 0 if part is None else part.tick, None
        for record in self.journal.since(tick):
            last = record if record.item else last
        self._again = (record.fed for record in self.journal.since(tick))
        return last

    def _follow(self, feed: Feed, last: Record | None) -> None:
        """Another process has read the feed until then: what comes next is what whoever sends it sends again."""
        if last is not None and (position := last.fed.position) is not None:
            feed.load_state_dict(position)
        self.send_again = feed.taken
        _log.warning(SEND_AGAIN, feed.taken)

    def _taken_again(self, most: int) -> list[Fed]:
        """Of what enters again, a silence, or as many batches as come before one."""
        taken: list[Fed] = []
        while len(taken) < most and (each := self._next_again()) is not None:
            if each.silent and taken:
                self.give_back(each)
                break
            taken.append(each)
            if each.silent:
                break
        return taken

    def _next_again(self) -> Fed | None:
        return self._left.popleft() if self._left else next(self._again, None)

    def _note(self, tick: int, ticks: int, each: Fed) -> None:
        if self.journal is not None and not self._feed_of.seeks:
            self.journal.add(tick, ticks, each)

    @property
    def _feed_of(self) -> Feed:
        assert self._feed is not None, "it is opened first"
        return self._feed

    @property
    def _reading(self) -> Ahead[Fed]:
        assert self._batches is not None, "it is opened first"
        return self._batches
