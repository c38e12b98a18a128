"""Whether a layer is what it must be: a function of its inputs, weights, buffers and seed, and of nothing else.

A costate may meet an evaluation that is made anew, a prediction may come in between, and the layer may move to another
process: what a layer keeps to itself from one call to the next would be mixed up, without a word.
"""

from collections.abc import Callable

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


def impurity(layer: Layer, first: Trial, attempt: Callable[[], Trial]) -> str:
    """What a layer keeps from one call to the next, or draws from, and what to do about it; empty where nothing.

    first: its first trial, before others of whatever kind.  attempt: makes the same trial once more.
    """
    module = layer.pure.module
    before = photograph(module)
    again = attempt()
    kept = _changed(before, photograph(module))
    if kept or not first.same(again):
        before = photograph(
            module
        )  # once what depends on the inputs' looks, such as a table of positions, is there
        again = attempt()
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
    for name in kept:
        if _matters(name, layer, first, attempt):
            return f"keeps a state of its own in {name!r}, on which its output depends: {REMEDY}"
    return ""


def _changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """The innermost first, since they tell most."""
    names = [name for name in after if name not in before or before[name] != after[name]]
    return sorted(names, key=len, reverse=True)


def _matters(name: str, layer: Layer, first: Trial, attempt: Callable[[], Trial]) -> bool:
    """Whether the layer says something else where an attribute has another value."""
    known = attributes(layer.pure.module).get(name)
    return known is not None and any(_tells(known, other, first, attempt) for other in others(known.value))


def _tells(attribute: Attribute, other: object, first: Trial, attempt: Callable[[], Trial]) -> bool:
    attribute.put(other)
    try:
        return not first.same(attempt())
    except Exception:  # that would not go by without a word
        return False
    finally:
        attribute.put(attribute.value)
