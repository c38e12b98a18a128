"""Placement: which actor hosts which layers, and what it asks of the node it runs on.

auto        as many actors as devices, contiguous layers packed by cost
N           N actors, packed likewise
per-layer   an actor a layer
lists       actor k hosts the layers of list k
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Literal

import numpy as np

from hamdist.errors import NetworkError, Problem, did_you_mean
from hamdist.network.wording import all_of

Actors = Literal["auto", "per-layer"] | int | Sequence[Sequence[str]]


@dataclass(frozen=True)
class Request:
    """What an actor asks of its node; None, and what is not there, is left to the runtime.

    cpus, gpus: a GPU may be shared, 0.5.  resources: amounts of what the cluster's nodes offer by name.
    labels: those that the node must bear.  device: of the layers, instead of placement.device.
    """

    cpus: float | None = None
    gpus: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None


@dataclass(frozen=True)
class Placement:
    """actors: the layers that each hosts, in the network's order.  requests: one an actor."""

    actors: tuple[tuple[str, ...], ...]
    requests: tuple[Request, ...]

    def actor_of(self, name: str) -> int:
        """The number of the actor that hosts a layer."""
        return {layer: actor for actor, layers in enumerate(self.actors) for layer in layers}[name]


def place(
    names: Sequence[str],
    actors: Actors,
    devices: int,
    costs: Mapping[str, float] | None = None,
    requests: Mapping[str, Request] | None = None,
) -> Placement:
    """Every layer on an actor.

    names: of the layers, in the network's order.  devices: how many there are, 1 or more.  costs: of a layer's tick, in
    any unit; None: all alike.  requests: by a layer's name or index, or a glob on names.

    Raises NetworkError: as count_actors; requests of layers that do not exist, or that contradict each other.
    """
    count = count_actors(actors, names, devices)
    if isinstance(actors, str | int):
        weights = [1.0 if costs is None else costs[name] for name in names]
        hosted = tuple(tuple(names[start:stop]) for start, stop in pack(weights, count))
    else:
        rank = {name: index for index, name in enumerate(names)}
        hosted = tuple(tuple(sorted(layers, key=rank.__getitem__)) for layers in actors)
    return Placement(hosted, _requests_of(hosted, names, requests or {}))


def count_actors(actors: Actors, names: Sequence[str], devices: int) -> int:
    """How many actors there will be, which no cost bears on.

    Raises NetworkError: more actors than layers, lists that name an unknown layer, one twice, or leave one out.
    """
    if isinstance(actors, str):
        return len(names) if actors == "per-layer" else min(devices, len(names))
    if not isinstance(actors, int):
        if problems := list(_list_problems(actors, names)):
            raise NetworkError(*problems)
        return len(actors)
    if actors > len(names):
        layers = f"{len(names)} layer{'s' if len(names) > 1 else ''}"
        message = f"{actors} actors, but only {layers}: every actor hosts one at least"
        raise NetworkError(Problem("placement.actors", message))
    return actors


def pack(costs: Sequence[float], parts: int) -> list[tuple[int, int]]:
    """Contiguous, nonempty ranges (start, stop), the largest of their sums of costs as small as can be.

    Among those that are equal in this, the sum of the squared sums is the least. Where nothing costs anything, ranges
    are as long as each other. costs: 0 or more.  parts: 1 to len(costs).
    """
    assert 1 <= parts <= len(costs), f"{len(costs)} layers cannot be {parts} parts"
    sums = np.concatenate(([0.0], np.cumsum(costs if any(costs) else np.ones(len(costs)))))
    empty = np.tri(len(sums), dtype=bool)
    spans = np.where(empty, np.inf, sums[None, :] - sums[:, None])  # [start, stop]
    squares = np.where(spans <= _least_maximum(spans, parts), spans, np.inf) ** 2
    totals = np.where(np.arange(len(sums)) == 0, 0.0, np.inf)
    starts = []
    for _ in range(parts):
        paths = totals[:, None] + squares
        starts.append(paths.argmin(axis=0))
        totals = paths.min(axis=0)
    bounds = [len(costs)]
    for start in reversed(starts):
        bounds.append(int(start[bounds[-1]]))
    return list(pairwise(reversed(bounds)))


def _least_maximum(spans: np.ndarray, parts: int) -> float:
    """The least that the largest of `parts` consecutive spans can be, from the first position to the last."""
    maxima = np.where(np.arange(len(spans)) == 0, 0.0, np.inf)
    for _ in range(parts):
        maxima = np.maximum(maxima[:, None], spans).min(axis=0)
    return float(maxima[-1])


def _list_problems(actors: Sequence[Sequence[str]], names: Sequence[str]) -> Iterator[Problem]:
    listed, known = Counter(name for layers in actors for name in layers), set(names)
    for name, times in listed.items():
        if name not in known:
            yield Problem("placement.actors", f"there is no layer {name!r}{_hint(name, names)}")
        elif times > 1:
            yield Problem("placement.actors", f"layer {name!r} is listed twice: it lives on one actor")
    for name in names:
        if name not in listed:
            yield Problem("placement.actors", f"layer {name!r} is on no actor: every layer needs one")


def _requests_of(
    actors: Sequence[Sequence[str]], names: Sequence[str], requests: Mapping[str, Request]
) -> tuple[Request, ...]:
    """What each actor asks for: all that is asked for any of its layers."""
    layers = {pattern: _matching(pattern, names) for pattern in requests}
    asked = [
        {pattern: request for pattern, request in requests.items() if layers[pattern] & set(hosted)}
        for hosted in actors
    ]
    unmatched = [
        Problem(f"placement.requests.{pattern}", f"no layer is called {pattern!r}{_hint(pattern, names)}")
        for pattern, matching in layers.items()
        if not matching
    ]
    if problems := [*unmatched, *_contradictions(actors, asked)]:
        raise NetworkError(*problems)
    return tuple(_merged(each.values()) for each in asked)


def _matching(pattern: str, names: Sequence[str]) -> set[str]:
    """The layers that a name, an index or a glob means."""
    if pattern.isdecimal() and pattern not in names:
        return set(names[int(pattern) :][:1])
    return {name for name in names if fnmatchcase(name, pattern)}


def _contradictions(
    actors: Sequence[Sequence[str]], asked: Sequence[Mapping[str, Request]]
) -> Iterable[Problem]:
    """A problem for every two requests that no node can meet both, at the first actor they meet on."""
    found: dict[tuple[str, ...], Problem] = {}
    for actor, requests in enumerate(asked):
        first: dict[str, tuple[str, str]] = {}
        for pattern, request in requests.items():
            for what, value in _demands(request).items():
                other, wanted = first.setdefault(what, (pattern, value))
                if value != wanted:
                    message = (
                        f"actor {actor} ({', '.join(actors[actor])}) is asked for {what} {wanted!r} by {other!r}"
                        f" and {value!r} by {pattern!r}: let them agree"
                    )
                    found.setdefault((what, other, pattern), Problem("placement.requests", message))
    return found.values()


def _demands(request: Request) -> dict[str, str]:
    """What a node has or has not, by what errors call it."""
    device = {} if request.device is None else {"device": request.device}
    return device | {f"label {name}": value for name, value in request.labels.items()}


def _merged(requests: Iterable[Request]) -> Request:
    """The largest of every amount, and every label, of requests that do not contradict each other."""
    merged = Request()
    for request in requests:
        resources = {
            name: max(every.get(name, 0.0) for every in (merged.resources, request.resources))
            for name in {**merged.resources, **request.resources}
        }
        merged = Request(
            _largest(merged.cpus, request.cpus),
            _largest(merged.gpus, request.gpus),
            resources,
            {**merged.labels, **request.labels},
            merged.device or request.device,
        )
    return merged


def _largest(*amounts: float | None) -> float | None:
    return max((amount for amount in amounts if amount is not None), default=None)


def _hint(name: str, names: Sequence[str]) -> str:
    return did_you_mean(name, names) or f"; the layers are {all_of(names)}"
