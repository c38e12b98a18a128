"""A state as tensors and JSON, and back, bit for bit: what a file can hold of it without anything being pickled.

A tree is made of the records below, tuples, lists, mappings with keys of text or whole numbers, deques, numbers, text,
bytes, tensors of any dtype, and NumPy's arrays and scalars; every type comes back as it was. Whoever decodes imports
and calls nothing that a file names.
"""

import base64
import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hamdist.engine.junction import Met
from hamdist.engine.ledger import Ledger
from hamdist.engine.message import Costate, Message, Signal, Token
from hamdist.engine.node_part import NodePart
from hamdist.engine.state import LossState, NodeState, PartitionState, RuntimeState, Settling, SourceState
from hamdist.engine.stored_tensor import StoredTensor, stored, taken
from hamdist.physics.averaging import RunningMean
from hamdist.physics.layers import Point
from hamdist.physics.pure_module import Context
from hamdist.physics.step import Carry, Evaluation, Weights
from hamdist.report.metrics import Sums

RECORDS: dict[str, type[Any]] = {
    record.__name__: record
    for record in (
        Carry,
        Context,
        Costate,
        Evaluation,
        Ledger,
        LossState,
        Message,
        Met,
        NodePart,
        NodeState,
        PartitionState,
        Point,
        RunningMean,
        RuntimeState,
        Settling,
        Signal,
        SourceState,
        Sums,
        Token,
        Weights,
    )
}
"""What a tree may hold beside plain things, all of them named tuples."""

_KINDS = "biufcmMUS"  # of NumPy's dtypes, those that are plain bytes
_MOST = 2**63


class Encoded(NamedTuple):
    """tensors: by name, each on the CPU, contiguous and its own.  told: all else, as JSON has it."""

    tensors: dict[str, Tensor]
    told: dict[str, Any]


def encode(tree: Any) -> Encoded:
    """What it holds now. Tensors leave their graphs; one that occurs twice is stored once; pullbacks of records stay
    out, and are made anew from point and weights. Raises TypeError naming the place of what has no form.
    """
    encoder = _Encoder()
    told = encoder.told(tree, ())
    fields = {name: list(RECORDS[name]._fields) for name in sorted(encoder.records)}
    return Encoded(encoder.tensors, {"records": fields, "tree": told})


def decode(encoded: Encoded, device: torch.device | str = "cpu") -> Any:
    """The tree, its tensors on a device, in memory of their own, aligned. Raises ValueError for what `encode` does not
    write, and for records of other fields, which another version has written.
    """
    tensors, told = encoded
    try:
        _check_records(told["records"])
        return _Decoder(tensors, torch.device(device)).tree(told["tree"])
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (KeyError, TypeError, IndexError, AttributeError, struct.error) as error:
        raise ValueError(f"not a state as hamdist writes it ({type(error).__name__}: {error})") from error


def encoded_size(encoded: Encoded) -> int:
    """Bytes of its tensors."""
    return sum(tensor.nbytes for tensor in encoded.tensors.values())


def _check_records(records: Mapping[str, Sequence[str]]) -> None:
    for name, fields in records.items():
        if name not in RECORDS:
            raise ValueError(f"the record {name!r} is not known here")
        if list(fields) != list(RECORDS[name]._fields):
            raise ValueError(f"{name} has other fields here: another version of hamdist has written this")


class _Encoder:
    """What is plain stands for itself; anything else is a list [what, …].  records: the names of those that occur."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.records: set[str] = set()
        self._known: dict[Any, tuple[str, StoredTensor, Tensor]] = {}

    def told(self, value: Any, path: tuple[str, ...]) -> Any:
        kind = type(value)
        if value is None or kind in (bool, str):
            return value
        if kind is int:
            return value if -_MOST <= value < _MOST else ["int", hex(value)]
        if kind is float:
            return value if abs(value) < float("inf") else ["float", struct.pack("<d", value).hex()]
        if kind.__name__ in RECORDS and RECORDS[kind.__name__] is kind:
            self.records.add(kind.__name__)
            return [kind.__name__, *self._fields(value, path)]
        return self._other(value, kind, path)

    def _fields(self, record: Any, path: tuple[str, ...]) -> list[Any]:
        fields = zip(record._fields, record, strict=True)
        return [None if callable(value) else self.told(value, (*path, name)) for name, value in fields]

    def _other(self, value: Any, kind: type, path: tuple[str, ...]) -> Any:
        if kind in (tuple, list):
            return [kind.__name__, *self._items(value, path)]
        if kind is deque:
            return ["deque", value.maxlen, *self._items(value, path)]
        if kind is dict:
            return ["dict", *self._pairs(value, path)]
        if kind is Tensor:
            return ["tensor", *self._stored(value, path)]
        if kind is bytes:
            return ["bytes", base64.b64encode(value).decode()]
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _KINDS:
            return self._of_numpy(value, path)
        raise TypeError(
            f"{_place(path)}: an object of type {kind.__module__}.{kind.__qualname__} cannot be written without being "
            "pickled; accepted are tensors, NumPy arrays, numbers, text, lists, tuples and mappings of these"
        )

    def _items(self, values: Any, path: tuple[str, ...]) -> list[Any]:
        return [self.told(value, (*path, f"[{place}]")) for place, value in enumerate(values)]

    def _pairs(self, mapping: Mapping[Any, Any], path: tuple[str, ...]) -> list[Any]:
        """Keys and values in turn."""
        for key in mapping:
            if type(key) not in (str, int):
                raise TypeError(f"{_place(path)}: keys are text or whole numbers, not {key!r}")
        return [
            each
            for key, value in mapping.items()
            for each in (self.told(key, path), self.told(value, (*path, str(key))))
        ]

    def _of_numpy(self, value: Any, path: tuple[str, ...]) -> list[Any]:
        """An array as its bytes, since torch has not all its dtypes; a scalar in the text."""
        dtype = value.dtype.str
        if isinstance(value, np.generic):
            return ["scalar", dtype, value.tobytes().hex()]
        if type(value) is not np.ndarray:
            raise TypeError(
                f"{_place(path)}: of arrays, NumPy's own are accepted, not {type(value).__name__}"
            )
        flat = np.frombuffer(value.tobytes(), np.uint8).copy()
        return ["array", dtype, list(value.shape), *self._stored(torch.from_numpy(flat), path)]

    def _stored(self, tensor: Tensor, path: tuple[str, ...]) -> tuple[str, StoredTensor]:
        """The name of its tensor, and how to make it of that."""
        place = (
            (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) if _plain(tensor) else id(tensor)
        )
        if place not in self._known:
            try:
                plain, how = stored(tensor)
            except TypeError as error:
                raise TypeError(f"{_place(path)}: {error}") from error
            name = self._name(path)
            self.tensors[name] = plain
            self._known[place] = name, how, tensor
        return self._known[place][:2]

    def _name(self, path: tuple[str, ...]) -> str:
        """That of its place, the first of several."""
        name, again = _place(path), 1
        while (found := name if again == 1 else f"{name} ({again})") in self.tensors:
            again += 1
        return found


class _Decoder:
    """What is written twice becomes one tensor again."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self._tensors, self._device = tensors, device
        self._made: dict[str, Tensor] = {}

    def tree(self, told: Any) -> Any:
        if not isinstance(told, list):
            if isinstance(told, dict):
                raise ValueError("a mapping stands where there is none")
            return told
        what, *rest = told
        if what in RECORDS:
            return RECORDS[what]._make(map(self.tree, rest))
        if what not in _FORMS:
            raise ValueError(f"{what!r} is not known here")
        return _FORMS[what](self, rest)

    def tensor(self, rest: Sequence[Any]) -> Tensor:
        name, how = rest
        if name not in self._made:
            self._made[name] = taken(self._tensors[name], how, self._device)
        return self._made[name]

    def mapping(self, rest: Sequence[Any]) -> dict[Any, Any]:
        return {self.tree(key): self.tree(value) for key, value in zip(rest[::2], rest[1::2], strict=True)}

    def array(self, rest: Sequence[Any]) -> Any:
        dtype, shape, name, _ = rest
        return _array(shape, dtype, self._tensors[name].numpy().tobytes())


_FORMS: dict[str, Callable[[_Decoder, Sequence[Any]], Any]] = {
    "int": lambda _, rest: int(rest[0], 16),
    "float": lambda _, rest: struct.unpack("<d", bytes.fromhex(rest[0]))[0],
    "tuple": lambda decoder, rest: tuple(map(decoder.tree, rest)),
    "list": lambda decoder, rest: list(map(decoder.tree, rest)),
    "deque": lambda decoder, rest: deque(map(decoder.tree, rest[1:]), rest[0]),
    "dict": _Decoder.mapping,
    "tensor": _Decoder.tensor,
    "bytes": lambda _, rest: base64.b64decode(rest[0]),
    "scalar": lambda _, rest: _array([], rest[0], bytes.fromhex(rest[1]))[()],
    "array": _Decoder.array,
}


def _plain(tensor: Tensor) -> bool:
    """Whether where it is in memory says which one it is."""
    return tensor.layout is torch.strided and not (tensor.is_conj() or tensor.is_neg()) and tensor.numel() > 0


def _array(shape: Sequence[int], dtype: str, data: bytes) -> Any:
    """NumPy's array of bytes."""
    found = np.dtype(dtype)
    if found.kind not in _KINDS:
        raise ValueError(f"the dtype {dtype!r} is not accepted")
    return np.ndarray(shape, found, data).copy()


def _place(path: Sequence[str]) -> str:
    """ "nodes.block1.kept[3]" """
    return ".".join(path).replace(".[", "[") or "the state"
