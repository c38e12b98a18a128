"""What enters a network, batch by batch: read ahead from the stream, and again from an earlier point where need be."""

import math
import threading
from collections.abc import Callable

from hamdist.cluster.ahead import Ahead
from hamdist.cluster.feed import Fed, Feed, Pair, Pairs, fed
from hamdist.cluster.source_part import SourcePart
from hamdist.errors import RunError, StreamError

AHEAD = 2  # batches read before they are needed, or those of so many messages, where they are small
AHEAD_BYTES = 2 * 2**20


class Intake:
    """open_feed: opens the stream.  positions: whether anybody wants to know where it is."""

    def __init__(self, open_feed: Callable[[], Feed], positions: bool) -> None:
        self._open_feed, self._positions = open_feed, positions
        self._feed: Feed | None = None
        self._batches: Ahead[Fed] | None = None

    def first(self, asked: threading.Event) -> Pair:
        """Opens the stream; its first batch, which is presented later, like all others."""
        batches = self._open()
        taken = batches.take(asked, 1)
        if not taken:
            raise StreamError("the run was ended before the first sample came")
        batches.give_back(taken[0])
        assert taken[0].batch is not None
        return taken[0].batch

    def take(self, asked: threading.Event, most: int, seconds: float = math.inf) -> list[Fed]:
        """As of what reads ahead."""
        return self._reading.take(asked, most, seconds)

    def read_ahead(self, messages: int, tick_bytes: int) -> None:
        """messages: how many of them are to be read before they are needed."""
        self._reading.count = max(AHEAD, min(AHEAD * messages, AHEAD_BYTES // tick_bytes))

    def holdout(self) -> Pairs | None:
        """The batches of the hold-out, where there is one."""
        assert self._feed is not None
        return self._feed.holdout()

    def rewind(self, part: SourcePart | None) -> None:
        """Goes on where the part was cut; None: from the start. Raises RunError where the stream cannot seek."""
        if self._batches is not None:
            assert self._feed is not None
            if not self._feed.seeks:
                raise RunError("the stream cannot be read again from an earlier sample: start the run again")
            self._batches.close()
        self._open(part)

    @property
    def _reading(self) -> Ahead[Fed]:
        assert self._batches is not None, "it is opened first"
        return self._batches

    def _open(self, part: SourcePart | None = None) -> Ahead[Fed]:
        self._feed = self._open_feed()
        if part is not None:
            self._feed.load_state_dict(part.stream)
        self._batches = Ahead(fed(self._feed, self._positions), AHEAD)
        return self._batches
