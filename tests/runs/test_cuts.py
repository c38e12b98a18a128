"""Cuts of a run over two actors whose parts come as the test says: which become checkpoints, and which are given up."""

import logging
from typing import Any

import pytest
import torch

from hamdist.cluster.cut_keeper import PartNews
from hamdist.cluster.source_part import SourcePart
from hamdist.engine.state import SourceState
from hamdist.runs.cuts import OLDER, Cuts


def source(tick: int) -> SourcePart:
    return SourcePart(SourceState(tick, 8 * tick, ()), {}, (torch.zeros(1), None))


def parts(tick: int, problem: str = "") -> dict[int, tuple[PartNews, ...]]:
    return {0: (PartNews(tick, ("first",), problem),), 1: (PartNews(tick, ("second",)),)}


def test_a_cut_is_whole_when_all_parts_have_come() -> None:
    made: list[tuple[int, Any]] = []
    cuts = Cuts(2, lambda source, files: made.append((source.tick, list(files))), print)
    cuts.entered([source(4), source(8)])
    assert cuts.add({0: parts(4)[0]}) is None
    assert cuts.add({1: parts(4)[1]}) == 4
    assert made == [(4, ["first", "second"])]
    assert cuts.newest is not None
    assert (cuts.newest.tick, cuts.awaited, cuts.given_up()) == (4, True, [])


@pytest.mark.parametrize("where", ["in an actor", "here"])
def test_a_cut_that_cannot_be_written_is_given_up_and_the_one_before_stays(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    def commit(source: SourcePart, files: Any) -> None:
        if where == "here" and source.tick == 8:
            raise OSError("no room")

    abandoned: list[int] = []
    cuts = Cuts(2, commit, abandoned.append)
    cuts.entered([source(4), source(8)])
    with caplog.at_level(logging.WARNING):
        assert cuts.add(parts(4)) == 4
        assert cuts.add(parts(8, "no room" if where == "in an actor" else "")) is None
    assert "no checkpoint at tick 8: no room; the run goes on" in caplog.text
    assert cuts.given_up() == abandoned == [8]
    assert cuts.given_up() == []  # once
    assert cuts.newest is not None
    assert cuts.newest.tick == 4
    assert (cuts.counts.written, cuts.counts.failed, cuts.counts.tick) == (1, 1, 4)


def test_what_is_older_than_a_whole_cut_is_not_waited_for() -> None:
    cuts = Cuts(2, lambda source, files: None, print)
    cuts.entered([source(4), source(8)])
    cuts.add({0: parts(4)[0]})
    assert cuts.add(parts(8)) == 8
    assert not cuts.awaited
    assert cuts.add({1: parts(4)[1]}) is None


def test_one_that_is_spoilt_leaves_the_one_before() -> None:
    cuts = Cuts(2, lambda source, files: None, print)
    for tick in range(4, 4 * (OLDER + 3), 4):
        cuts.entered([source(tick)])
        cuts.add(parts(tick))
    ticks = []
    while cuts.newest is not None:
        ticks.append(cuts.newest.tick)
        cuts.spoilt()
    assert ticks == [4 * n for n in range(OLDER + 2, 1, -1)]


def test_an_actor_may_tell_of_its_part_before_the_source_does() -> None:
    cuts = Cuts(2, lambda source, files: None, print)
    assert cuts.add({0: [PartNews(8)]}) is None
    cuts.entered([source(8)])
    assert cuts.add({1: [PartNews(8)], 0: []}) == 8
