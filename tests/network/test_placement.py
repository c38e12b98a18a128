"""Placement: who hosts what, against all ways to cut a chain; what actors ask for; every mistake word for word."""

import random
from itertools import combinations, pairwise

import pytest
from support.seeds import over_seeds

from hamdist.errors import NetworkError, Problem
from hamdist.network.placement import Placement, Request, count_actors, pack, place

NAMES = ("embed", "block0", "block1", "block2", "head")


def problems(*args, **kwargs) -> list[str]:
    with pytest.raises(NetworkError) as caught:
        place(*args, **kwargs)
    assert all(isinstance(problem, Problem) and problem.key for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


# Packing


def all_cuts(count: int, parts: int):
    """Every way to cut a chain into contiguous, nonempty ranges."""
    for cuts in combinations(range(1, count), parts - 1):
        yield list(pairwise((0, *cuts, count)))


def sums(costs, ranges) -> list[float]:
    return [sum(costs[start:stop]) for start, stop in ranges]


def squares(costs, ranges) -> float:
    return sum(total**2 for total in sums(costs, ranges))


@over_seeds(60)
def test_no_other_cut_has_a_smaller_maximum_nor_of_those_a_better_balance(seed):
    draw = random.Random(seed)
    count = draw.randint(1, 9)
    parts = draw.randint(1, count)
    costs = [draw.choice((0, 1, 2, 3, 7, 50)) for _ in range(count - 1)] + [1]
    best = min((max(sums(costs, cut)), squares(costs, cut)) for cut in all_cuts(count, parts))
    packed = pack(costs, parts)
    assert packed in list(all_cuts(count, parts))
    assert (max(sums(costs, packed)), squares(costs, packed)) == best


@over_seeds(20)
def test_costs_that_are_no_whole_numbers(seed):
    draw = random.Random(seed)
    costs = [draw.expovariate(1e-9) for _ in range(10)]
    least = min(max(sums(costs, cut)) for cut in all_cuts(10, 4))
    assert max(sums(costs, pack(costs, 4))) == pytest.approx(least, rel=1e-12)


def test_ties_go_to_the_even_cut():
    assert pack([9, 1, 1, 1, 1], 3) == [(0, 1), (1, 3), (3, 5)]
    assert pack([1, 1, 1, 1, 9], 3) == [(0, 2), (2, 4), (4, 5)]


def test_where_nothing_costs_anything_ranges_are_as_long_as_each_other():
    assert pack([0, 0, 0, 0, 0, 0], 3) == [(0, 2), (2, 4), (4, 6)]


def test_one_part_is_everything_and_as_many_parts_as_layers_are_one_each():
    assert pack([5, 0, 3], 1) == [(0, 3)]
    assert pack([5, 0, 3], 3) == [(0, 1), (1, 2), (2, 3)]


def test_a_long_chain():
    packed = pack([1] * 1000, 7)
    assert {stop - start for start, stop in packed} == {142, 143}


# Actors


@pytest.mark.parametrize(
    ("actors", "devices", "expected"),
    [
        ("auto", 1, 1),
        ("auto", 3, 3),
        ("auto", 64, 5),
        ("per-layer", 1, 5),
        (1, 8, 1),
        (5, 1, 5),
        ([["head"], NAMES[:4]], 1, 2),
    ],
)
def test_the_number_of_actors_is_known_without_costs(actors, devices, expected):
    assert count_actors(actors, NAMES, devices) == expected
    assert len(place(NAMES, actors, devices).actors) == expected


def test_auto_and_a_number_pack_neighbours_by_cost():
    costs = dict(zip(NAMES, (60, 10, 10, 10, 20), strict=True))
    expected = (("embed",), ("block0", "block1", "block2", "head"))
    assert place(NAMES, "auto", 2, costs).actors == expected
    assert place(NAMES, 2, 64, costs).actors == expected


def test_without_costs_all_layers_count_alike():
    assert sorted(map(len, place(NAMES, 2, 1).actors)) == [2, 3]
    assert place(NAMES[:4], 2, 1).actors == (NAMES[:2], NAMES[2:4])


def test_per_layer():
    assert place(NAMES, "per-layer", 1).actors == tuple((name,) for name in NAMES)


def test_lists_keep_their_order_and_layers_the_networks():
    placement = place(NAMES, [["head", "embed"], ["block2", "block0", "block1"]], devices=1)
    assert placement.actors == (("embed", "head"), ("block0", "block1", "block2"))
    assert [placement.actor_of(name) for name in NAMES] == [0, 1, 1, 1, 0]


def test_no_layer_of_another_name_has_an_actor():
    with pytest.raises(KeyError, match="nobody"):
        Placement((("a",),), (Request(),)).actor_of("nobody")


ALL_LAYERS = "; the layers are embed, block0, block1, block2, head"


@pytest.mark.parametrize(
    ("actors", "messages"),
    [
        (7, ["7 actors, but only 5 layers: every actor hosts one at least"]),
        ([NAMES, ["haed"]], ["there is no layer 'haed'; did you mean 'head'?"]),
        ([NAMES, ["9"]], [f"there is no layer '9'{ALL_LAYERS}"]),
        ([NAMES, ["head"]], ["layer 'head' is listed twice: it lives on one actor"]),
        ([[*NAMES, "head", "head"]], ["layer 'head' is listed twice: it lives on one actor"]),
        ([NAMES[:4]], ["layer 'head' is on no actor: every layer needs one"]),
        (
            [["embed", "qqqqq"], ["embed", "block0", "block1"]],
            [
                "layer 'embed' is listed twice: it lives on one actor",
                f"there is no layer 'qqqqq'{ALL_LAYERS}",
                "layer 'block2' is on no actor: every layer needs one",
                "layer 'head' is on no actor: every layer needs one",
            ],
        ),
    ],
)
def test_actors_that_do_not_fit_the_layers(actors, messages):
    expected = [f"placement.actors: {message}" for message in messages]
    assert problems(NAMES, actors, devices=1) == expected
    with pytest.raises(NetworkError) as caught:
        count_actors(actors, NAMES, devices=1)
    assert list(map(str, caught.value.problems)) == expected


def test_two_actors_for_one_layer():
    (problem,) = problems(["a"], 2, devices=1)
    assert problem == "placement.actors: 2 actors, but only 1 layer: every actor hosts one at least"


# Requests

HALVES = [NAMES[:2], NAMES[2:]]


def asked(actors, **requests) -> tuple[Request, ...]:
    return place(NAMES, actors, 1, requests=requests).requests


def test_nobody_asks_for_anything_unless_told():
    assert asked(HALVES) == (Request(), Request())


def test_a_request_reaches_the_actors_of_its_layers_only():
    wants = Request(cpus=2)
    assert asked("per-layer", block1=wants) == (Request(), Request(), wants, Request(), Request())
    assert asked("per-layer", **{"block*": wants}) == (Request(), wants, wants, wants, Request())
    assert asked("per-layer", **{"4": wants}) == (*[Request()] * 4, wants)
    assert asked(HALVES, head=wants) == (Request(), wants)


def test_a_name_of_digits_comes_before_an_index():
    wants = Request(cpus=2)
    assert place(["1", "0"], "per-layer", 1, requests={"0": wants}).requests == (Request(), wants)


def test_an_actor_asks_for_the_largest_of_every_amount_and_for_all_labels():
    merged = asked(
        HALVES,
        embed=Request(cpus=1, gpus=0.5, resources={"camera": 1, "disk": 3}, labels={"zone": "a"}),
        block0=Request(cpus=4, resources={"camera": 2}, labels={"zone": "a", "rack": "7"}, device="cuda"),
        **{"block*": Request(gpus=0, device="cuda")},
    )
    assert merged == (
        Request(4, 0.5, {"camera": 2, "disk": 3}, {"zone": "a", "rack": "7"}, "cuda"),
        Request(gpus=0, device="cuda"),
    )


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            Request(device="cpu"),
            Request(device="cuda"),
            "device 'cpu' by 'embed' and 'cuda' by 'block*': let them agree",
        ),
        (
            Request(labels={"zone": "a", "rack": "7"}),
            Request(labels={"rack": "7", "zone": "b"}),
            "label zone 'a' by 'embed' and 'b' by 'block*': let them agree",
        ),
    ],
)
def test_layers_of_one_actor_that_contradict_each_other(first, second, message):
    requests = {"embed": first, "block*": second}
    assert problems(NAMES, HALVES, 1, requests=requests) == [
        f"placement.requests: actor 0 (embed, block0) is asked for {message}"
    ]
    assert place(NAMES, "per-layer", 1, requests=requests).requests[:2] == (first, second), "apart they may"


def test_a_contradiction_is_told_once_at_the_first_actor_it_meets():
    requests = {"block*": Request(device="cpu"), "b*": Request(device="cuda")}
    assert problems(NAMES, "per-layer", 1, requests=requests) == [
        "placement.requests: actor 1 (block0) is asked for device 'cpu' by 'block*' and 'cuda' by 'b*': let them agree"
    ]


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("blok0", "; did you mean 'block0'?"),
        ("conv*", ALL_LAYERS),
        ("5", ALL_LAYERS),
        ("Head", "; did you mean 'head'?"),
    ],
)
def test_requests_of_layers_that_do_not_exist(pattern, hint):
    expected = f"placement.requests.{pattern}: no layer is called {pattern!r}{hint}"
    assert problems(NAMES, "per-layer", 1, requests={pattern: Request(cpus=1)}) == [expected]


def test_everything_wrong_with_requests_is_said_at_once():
    requests = {"nobody": Request(), "embed": Request(device="cpu"), "block0": Request(device="cuda")}
    assert [line.partition(":")[0] for line in problems(NAMES, HALVES, 1, requests=requests)] == [
        "placement.requests.nobody",
        "placement.requests",
    ]
