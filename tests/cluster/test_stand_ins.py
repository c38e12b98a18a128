"""Who takes the place of a lost actor, and where."""

from collections.abc import Sequence
from typing import Any

import pytest

from hamdist.cluster import stand_ins
from hamdist.cluster.actor import Location
from hamdist.cluster.resources import Bundle
from hamdist.cluster.stand_ins import StandIn, StandIns


def standing_in(
    monkeypatch: pytest.MonkeyPatch, nodes: dict[str, str], gpus: int = 0, spares: Sequence[StandIn] = ()
) -> StandIns:
    """Of two actors; new ones are called by where they are. nodes: those that answer, as they come to be."""
    resources = {"CPU": 1.0} | ({"GPU": float(gpus)} if gpus else {})
    found = StandIns(None, None, [Bundle(resources, {})] * 2, len(spares))
    found._spares = list(spares)
    monkeypatch.setattr(stand_ins, "answering", lambda: nodes)
    monkeypatch.setattr(found, "_inside", lambda number, _: f"place {number}")
    monkeypatch.setattr(found, "_outside", lambda node, _: f"beside, on {node}")
    return found


def at(node: str) -> Location:
    return Location(node, "127.0.0.1", 1)


def test_a_place_on_a_node_that_is_gone_stays_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an actor that had moved from it dies: nobody could start in the place."""
    nodes = {"n1": "h1", "n2": "h2"}
    found = standing_in(monkeypatch, nodes)
    assert found.take(1, at("n2"), True) == "place 1"
    del nodes["n2"]
    assert found.take(1, at("n2"), True) == "beside, on n1"
    assert found.take(1, at("n1"), True) == "beside, on n1"
    assert found.take(0, at("n1"), True) == "place 0"


def test_spares_stay_for_those_whose_place_they_can_take(monkeypatch: pytest.MonkeyPatch) -> None:
    spares: list[Any] = [StandIn("n1", "a spare"), StandIn("n3", "a spare on a node that is gone")]
    found = standing_in(monkeypatch, {"n1": "h1"}, 1, spares)
    assert found.take(0, at("n1"), True) == "place 0"
    assert found._spares == spares
    assert standing_in(monkeypatch, {"n1": "h1"}, 0, spares).take(0, at("n3"), True) == "a spare"
