"""What a fused part remembers: who passed, who learnt, and the points that costates will meet; against plain lists."""

import random

import pytest
import torch
from torch import Tensor

from hamdist.engine.fused.state import Stashes
from hamdist.engine.fused.tokens import Passage
from hamdist.engine.ledger import Ledger
from hamdist.engine.message import Token


def tokens(count: int, hold: int = 1, gap: int | None = None) -> list[Token]:
    """Successive ticks; at `gap` some samples are missing."""
    missing = 5 if gap is not None else 0
    return [
        Token(tick, 4 * (tick // hold) + (missing if gap is not None and tick >= gap else 0), 4, tick % hold)
        for tick in range(count)
    ]


def test_a_passage_knows_every_token_that_it_keeps():
    passage, told = Passage(kept=10), tokens(40)
    for token in told:
        passage.add([token])
        passage.add([token])  # told twice
        assert passage.latest == token.tick
        oldest = max(0, token.tick - 9)
        assert [passage[tick] for tick in range(oldest, token.tick + 1)] == told[oldest : token.tick + 1]
    assert len(passage._tokens) == 10


def test_a_passage_begins_anew_anywhere():
    passage = Passage(kept=5)
    for token in tokens(4):
        passage.add([token])
    passage.restart()
    passage.add([tokens(20)[17]])
    assert (passage.latest, passage[17].tick) == (17, 17)


@pytest.mark.parametrize(("hold", "gap"), [(1, None), (3, None), (1, 12)])
def test_many_tokens_at_once_count_like_one_by_one(hold, gap):
    told = tokens(30, hold, gap)
    passage, ours, theirs = Passage(kept=30), Ledger(), Ledger()
    for token in told:
        passage.add([token])
    chance, first = random.Random(0), 0
    while first < 30:
        last = min(29, first + chance.randrange(8))
        ours = passage.drove(ours, first, last)
        assert passage.drove(ours, last + 1, last) == ours  # none
        for token in told[first : last + 1]:
            theirs = theirs.drove(token)
        assert ours == theirs
        assert ours.seen_once(ours.samples) == theirs.seen_once(theirs.samples)
        first = last + 1
    assert ours.seen_once(ours.samples) == (hold == 1 and gap is None)


DEPTHS = (4, 0, 2, 7)


def point(tick: int, member: int) -> Tensor:
    return torch.tensor([float(tick), float(member)])


def points(tick: int) -> tuple[Tensor, Tensor]:
    """Of all members: a tensor [N, 2], and one [N]."""
    together = torch.stack([point(tick, member) for member in range(len(DEPTHS))])
    return together, together[:, 0] * 10 + together[:, 1]


def test_stashes_give_every_member_the_point_of_its_own_depth():
    chunk = 3
    stashes = Stashes(DEPTHS, chunk, points(0), stacks=True)
    for member, depth in enumerate(DEPTHS):
        for tick in range(-depth, 0):
            stashes.put_one(member, tick, (point(tick, member), torch.tensor(tick * 10.0 + member)))
    chance, tick = random.Random(0), 0
    while tick < 60:
        ticks = chance.choice([1, chunk])
        met = stashes.get(tick, ticks)
        for ahead in range(ticks):
            for member, depth in enumerate(DEPTHS):
                if depth > ahead:  # put before this chunk
                    assert torch.equal(met[0][ahead][member], point(tick + ahead - depth, member))
                    assert met[1][ahead][member] == (tick + ahead - depth) * 10.0 + member
        rows = zip(*(points(tick + ahead) for ahead in range(ticks)), strict=True)
        stashes.put(tick, ticks, tuple(map(torch.stack, rows)))
        tick += ticks
        for member, depth in enumerate(DEPTHS):
            for ago in range(1, depth + 1):
                assert torch.equal(stashes.get_one(member, tick - ago)[0], point(tick - ago, member))
    assert sum(ring.shape[0] for ring in stashes._rings) == 2 * (sum(DEPTHS) + chunk * len(DEPTHS))


def test_stashes_of_a_layer_that_stands_alone_have_no_members():
    stashes = Stashes([2], 1, (torch.zeros(5),), stacks=False)
    for tick in range(9):
        stashes.put(tick, 1, (torch.full((1, 5), float(tick)),))
        if tick >= 2:
            ((met,),) = stashes.get(tick + 1, 1)
            assert torch.equal(met, torch.full((5,), tick - 1.0))
