"""Parts of cuts come one by one, in any order; the cut whose parts are all there becomes a checkpoint, or nothing."""

from collections.abc import Sequence
from typing import Any

import torch

from hamdist.cluster.cut_keeper import PartNews
from hamdist.cluster.source_part import SourcePart
from hamdist.engine.state import SourceState
from hamdist.runs.cuts import Cuts


def source(tick: int) -> SourcePart:
    return SourcePart(SourceState(tick), {}, (torch.zeros(1), None))


def test_an_actor_may_tell_of_its_part_before_the_source_does() -> None:
    cuts = Cuts(2, lambda *_: None, lambda _: None)
    assert cuts.add({0: [PartNews(8)]}) is None
    cuts.entered([source(8)])
    assert cuts.add({1: [PartNews(8)], 0: []}) == 8


def test_one_that_cannot_be_is_abandoned_and_the_next_one_counts() -> None:
    abandoned: list[int] = []

    def commit(of: SourcePart, files: Sequence[Any]) -> None:
        if of.tick == 8:
            raise OSError("no space left")

    cuts = Cuts(1, commit, abandoned.append)
    cuts.entered([source(8), source(16), source(24)])
    assert cuts.add({0: [PartNews(8), PartNews(16, problem="not finite"), PartNews(24)]}) == 24
    assert abandoned == [8, 16]
    assert (cuts.counts.written, cuts.counts.failed) == (1, 2)


def test_nothing_is_kept_of_what_is_older_than_a_whole_one() -> None:
    cuts = Cuts(2, lambda *_: None, lambda _: None)
    cuts.entered([source(8), source(16)])
    assert cuts.add({0: [PartNews(4), PartNews(8), PartNews(16)], 1: [PartNews(16)]}) == 16
    assert not cuts.awaited
    assert cuts._parts == {}
