"""Whether a layer is what it must be: a function of its inputs, weights, buffers and seed, and of nothing else.

A costate may meet an evaluation that is made anew, a prediction may come in between, and the layer may move to another
process: what a layer keeps to itself from one call to the next would be mixed up, without a word.
"""

from collections.abc import Callable
from functools import partial

from hamdist.network.attributes import Attribute, attributes, is_generator, others, photograph
from hamdist.network.trial import Trial
from hamdist.physics.layers import Layer

REMEDY = (
    "keep a statistic in a buffer (register_buffer), and make what it remembers of its inputs a memory "
    "(hamdist.physics.statespace.StateSpace, with a drift and an output)"
)
GENERATOR_REMEDY = (
    "draw from torch's generator (torch.rand, dropout), from Python's `random` or from `numpy.random`, which are "
    "seeded for every sample"
)


Attempt = Callable[[bool], Trial]
"""Makes the first trial once more, with derivatives or, for a third of the time, without."""


def impurity(layer: Layer, first: Trial, attempt: Attempt) -> str:
    """What a layer keeps from one call to the next, or draws from, and what to do about it; empty where nothing.

    first: its first trial, before others of whatever kind.
    """
    module = layer.pure.module
    before = photograph(module)
    again = attempt(True)
    kept = _changed(before, photograph(module))
    if kept or not first.same(again):
        before = photograph(
            module
        )  # once what depends on the inputs' looks, such as a table of positions, is there
        again = attempt(True)
        kept = _changed(before, photograph(module))
    if drawn := [name for name in kept if is_generator(attributes(module)[name].value)]:
        return f"draws from a generator of its own, {drawn[0]!r}: {GENERATOR_REMEDY}"
    if not first.same(again):
        if kept:
            return f"keeps a state of its own in {kept[0]!r}, so that it says something else at every call: {REMEDY}"
        return (
            "says something else when it is called again with the same inputs, weights and seed: it keeps a state, "
            f"or draws from a generator of its own. {GENERATOR_REMEDY[0].upper()}{GENERATOR_REMEDY[1:]}; {REMEDY}"
        )
    if name := _telling(kept, layer, first, attempt):
        return f"keeps a state of its own in {name!r}, on which its output depends: {REMEDY}"
    return ""


def _changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """The innermost first, since they tell most."""
    names = [name for name in after if name not in before or before[name] != after[name]]
    return sorted(names, key=len, reverse=True)


def _telling(kept: list[str], layer: Layer, first: Trial, attempt: Attempt) -> str:
    """Which of these attributes, had it another value, would make the layer say something else; empty if none.

    All are changed at once, with derivatives for the last values alone, which lie furthest; each by itself only where
    that makes a difference. A layer may keep hundreds of counts.
    """
    known = attributes(layer.pure.module)
    changes = [
        [(attribute, other) for other in others(attribute.value)]
        for name in kept
        if (attribute := known.get(name))
    ]
    most = max(map(len, changes), default=0)
    together = [[many[min(i, len(many) - 1)] for many in changes if many] for i in range(most)]
    if not any(_tells(one, first, partial(attempt, i + 1 == most), True) for i, one in enumerate(together)):
        return ""
    alone = (change for many in changes for change in many)
    return next((change[0].name for change in alone if _tells([change], first, partial(attempt, True))), "")


def _tells(
    changes: list[tuple[Attribute, object]],
    first: Trial,
    attempt: Callable[[], Trial],
    failing: bool = False,
) -> bool:
    """Whether the layer says something else with these attributes changed.  failing: what is told where it fails, which
    for a single one would not go by without a word."""
    for attribute, other in changes:
        attribute.put(other)
    try:
        return not first.same(attempt())
    except Exception:
        return failing
    finally:
        for attribute, _ in reversed(changes):
            attribute.put(attribute.value)
