"""A stream read ahead in another thread: nothing is lost, nothing comes twice, and not too much is read."""

import threading
from itertools import count

import pytest
from support.patience import patient

from hamdist.cluster.ahead import Ahead

NEVER = threading.Event()
SECONDS = patient(60)


def test_items_come_in_order_as_many_as_are_there():
    ahead = Ahead(iter(range(50)), 6)
    taken = []
    while items := ahead.take(NEVER, 4, SECONDS):
        assert 1 <= len(items) <= 4
        taken += items
    assert taken == list(range(50))
    assert ahead.take(NEVER, 4, SECONDS) == []


def test_it_reads_so_far_ahead_and_goes_on_when_half_is_taken():
    read = []
    ahead = Ahead((read.append(k) or k for k in range(100)), 6)

    def full() -> bool:
        return len(ahead._read) == 6

    with ahead._changed:
        assert ahead._changed.wait_for(full, SECONDS)
        assert len(read) == 6
    assert ahead.take(NEVER, 2) == [0, 1]
    assert len(read) == 6  # four are left
    assert ahead.take(NEVER, 1) == [2]
    with ahead._changed:
        assert ahead._changed.wait_for(full, SECONDS)
        assert read == list(range(9))


def test_what_the_stream_raised_comes_after_its_items():
    def breaking():
        yield 1
        yield 2
        raise KeyError("three")

    ahead, taken = Ahead(breaking(), 8), []
    for _ in range(2):
        taken += ahead.take(NEVER, 1, SECONDS)
    assert taken == [1, 2]
    with pytest.raises(KeyError, match="three"):
        ahead.take(NEVER, 1, SECONDS)


def test_a_stream_that_is_silent():
    gate = threading.Event()

    def silent():
        gate.wait(SECONDS)
        yield 1

    ahead = Ahead(silent(), 2)
    with pytest.raises(TimeoutError):
        ahead.take(NEVER, 1, 0.0)
    gate.set()
    assert ahead.take(NEVER, 1, SECONDS) == [1]


def test_what_was_read_when_the_end_is_asked_for_is_handed_over_and_no_more():
    asked, read = threading.Event(), []
    ahead = Ahead((read.append(k) or k for k in count()), 6)
    with ahead._changed:
        assert ahead._changed.wait_for(lambda: len(ahead._read) == 6, SECONDS)
    asked.set()
    taken = []
    while items := ahead.take(asked, 4):
        taken += items
    assert taken == list(range(6))
    assert len(read) <= 7  # one was in the making
    silent = Ahead((NEVER.wait(SECONDS) for _ in range(1)), 2)
    assert silent.take(asked, 1) == []
