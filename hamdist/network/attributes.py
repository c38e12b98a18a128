"""What Python keeps for a module beside its parameters and buffers: found, compared, and set to something else."""

import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_LIBRARIES = ("torch", "numpy", "hamdist.", "builtins")
_MOST = 10_000  # values that are looked at, so that a table of the user's costs no seconds
_LARGE = 2**24  # bytes of an array above which it is known by its version alone
_COUNTS = (0, 1, 2, 3, 9, 10, 99, 100, 999, 1000, 9_999, 10_000, 99_999, 10**6, 10**9)
_FACTORS = (0.0, -1.0, 10.0, 1000.0)
_SCALARS = (bool, int, float, complex, str, bytes, type(None))


class Attribute(NamedTuple):
    """A value that is kept for a module, by a name such as "neuron.membrane" or "seen[3]", and what sets it."""

    name: str
    value: Any
    put: Callable[[Any], None]


def attributes(module: nn.Module) -> dict[str, Attribute]:
    """All that stands on a module and its parts, on objects that these keep, and in what their code refers to."""
    found: dict[str, Attribute] = {}
    seen: set[int] = set()
    for root in _roots(module):
        for attribute in _within(root, seen):
            found[attribute.name] = attribute
            if len(found) == _MOST:
                return found
    return found


def _roots(module: nn.Module) -> Iterator[Attribute]:
    """What stands on the parts, on their classes, and the methods of these."""
    for name, part in module.named_modules():
        own = vars(part)
        for key in [key for key in own if key not in _OF_EVERY_MODULE]:
            yield Attribute(f"{name}.{key}" if name else key, own[key], _setter(own, key))
        for kind in type(part).__mro__:
            if not kind.__module__.startswith(_LIBRARIES):
                for key, value in list(vars(kind).items()):
                    if isinstance(value, FunctionType) or not (
                        key.startswith("__") or hasattr(value, "__get__")
                    ):
                        yield Attribute(f"{kind.__name__}.{key}", value, partial(setattr, kind, key))


def _setter(owner: Any, key: Any) -> Callable[[Any], None]:
    return lambda value: owner.__setitem__(key, value)


def _within(attribute: Attribute, seen: set[int]) -> Iterator[Attribute]:
    """The attribute itself, and what it holds."""
    name, value, _ = attribute
    if isinstance(value, nn.Module | type) or id(value) in seen:
        return
    if not isinstance(value, _SCALARS):
        seen.add(id(value))
    yield attribute
    for part in _parts(attribute):
        yield from _within(part._replace(name=f"{name}{part.name}"), seen)


def _parts(attribute: Attribute) -> Iterator[Attribute]:
    """What a value holds, each by what is to be added to its name."""
    value: Any = attribute.value
    if isinstance(value, tuple):
        for i, part in enumerate(value):
            yield Attribute(f"[{i}]", part, _tuple_setter(attribute, i))
    elif isinstance(value, list | deque):
        for i in range(min(len(value), _MOST)):
            yield Attribute(f"[{i}]", value[i], _setter(value, i))
    elif isinstance(value, dict):
        for key in list(value)[:_MOST]:
            yield Attribute(f"[{key!r}]", value[key], _setter(value, key))
    elif isinstance(value, FunctionType):
        yield from _referred(value)
    elif not type(value).__module__.startswith(_LIBRARIES):
        for key in [key for key in (*getattr(value, "__dict__", ()), *_slots(value)) if hasattr(value, key)]:
            yield Attribute(f".{key}", getattr(value, key), partial(setattr, value, key))


def _slots(value: Any) -> Iterator[str]:
    """What an object without a dictionary keeps its values in."""
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots


def _referred(function: FunctionType) -> Iterator[Attribute]:
    """What the code of a function of the user's refers to: variables around it, and of its file."""
    if (function.__module__ or "").startswith(_LIBRARIES):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield Attribute(f" ({name})", cell.cell_contents, partial(setattr, cell, "cell_contents"))
        except ValueError:  # a variable without a value yet
            continue
    everything = function.__globals__
    for name in function.__code__.co_names:
        if name in everything and not callable(everything[name]):
            yield Attribute(f" ({name})", everything[name], _setter(everything, name))


def _tuple_setter(attribute: Attribute, i: int) -> Callable[[Any], None]:
    values = tuple(attribute.value)
    return lambda value: attribute.put((*values[:i], value, *values[i + 1 :]))


def photograph(module: nn.Module) -> dict[str, Any]:
    """All attributes as they are now, in a form that compares."""
    return {name: _looks(attribute.value) for name, attribute in attributes(module).items()}


def _looks(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.nbytes > _LARGE:
            return id(value), value._version
        flat = value.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
        return str(value.dtype), value.shape, _digest(flat.view(torch.uint8).numpy().tobytes())
    if isinstance(value, np.ndarray) and value.dtype != object:
        return (
            str(value.dtype),
            value.shape,
            _digest(value.tobytes()) if value.nbytes <= _LARGE else id(value),
        )
    if is_generator(value):
        return _digest(_generator_state(value))
    if isinstance(value, list | deque | dict | set):
        return type(value), len(value)
    return value if isinstance(value, _SCALARS) else type(value)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def is_generator(value: Any) -> bool:
    """Whether random numbers can be drawn from it."""
    return isinstance(value, random.Random | np.random.Generator | np.random.RandomState | torch.Generator)


def _generator_state(generator: Any) -> bytes:
    if isinstance(generator, torch.Generator):
        return generator.get_state().numpy().tobytes()
    if isinstance(generator, random.Random):
        return repr(generator.getstate()).encode() if type(generator) is random.Random else b""
    if isinstance(generator, np.random.RandomState):
        return repr(generator.get_state(legacy=False)).encode()
    return repr(generator.bit_generator.state).encode()


def others(value: Any) -> Iterator[Any]:
    """Other values that it might have had, had the module been called more often."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, *_COUNTS)
    elif isinstance(value, float):
        yield from (value + 1.0, *(value * factor for factor in _FACTORS), *map(float, _COUNTS))
    elif isinstance(value, Tensor | np.ndarray) and value.dtype not in (torch.bool, bool, object):
        yield from _other_arrays(value.detach() if isinstance(value, Tensor) else value)
    elif isinstance(value, list | deque):
        yield type(value)()
        yield type(value)(list(value) * min(1000, 1 + 100_000 // max(1, len(value))))
    elif isinstance(value, dict | set):
        yield type(value)()


def _other_arrays(array: Any) -> Iterator[Any]:
    whole = (
        not (array.is_floating_point() or array.is_complex())
        if isinstance(array, Tensor)
        else array.dtype.kind in "iu"
    )
    if whole:
        yield from (array * 0 + count for count in _COUNTS[:-2] if count < 100 or array.itemsize > 2)
    else:
        yield array + 1
        yield from (array * factor for factor in _FACTORS)
