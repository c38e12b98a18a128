"""A state becomes tensors and JSON, and the same state again: to the bit, and to the type."""

import json
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from support.inline import learning, runtime_of
from support.networks import residual_net
from support.samples import samples
from torch import Tensor, nn

from hamdist.engine.encoded_file import TOLD as TOLD_KEY
from hamdist.engine.encoded_file import as_bytes, load_encoded, save_encoded
from hamdist.engine.encoding import Encoded, decode, encode, encoded_size
from hamdist.engine.message import INVALID, Message, Signal, Token
from hamdist.engine.node_part import joined_parts, parts_of
from hamdist.network.locality import Horizon
from hamdist.physics import statespace
from hamdist.physics.rates import Adam
from hamdist.physics.soap import Soap
from hamdist.physics.step import Evaluation, Point

NAN = float.fromhex("nan")


def again(tree: Any) -> Any:
    """By way of a file."""
    return decode(load_encoded(as_bytes(encode(tree)))[0])


def alike(one: Any, other: Any) -> bool:
    """To the bit, and to the type of everything within."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        same = one.dtype == other.dtype and one.shape == other.shape
        return same and bytes_of(one) == bytes_of(other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return list(one) == list(other) and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, deque) and one.maxlen != other.maxlen:
        return False
    if isinstance(one, tuple | list | deque):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float):
        return one.hex() == other.hex() and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


def bytes_of(tensor: Tensor) -> bytes:
    plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return plain.contiguous().flatten().view(torch.uint8).numpy().tobytes()


TREES = [
    None,
    [True, False, 0, 1, -1, 2**63 - 1, -(2**63), 2**63, 2**20000, -(2**64)],
    [0.0, -0.0, 0.1, 1e308, 5e-324, math.inf, -math.inf, NAN],
    ("", "text", "ξ\n\0\ud7ff", b"\x00\xff"),
    {"a": 1, "1": 2, 1: 3, -5: (), "a.b": [], "": {}},
    deque([1, 2, 3], maxlen=3),
    deque(["x"]),
    [[], [[]], [["tuple", 1]], ["Token"], ["dict"]],
    Token(3, 4, 5, restarts=2**4000 + 1),
    Message((INVALID, Token(1)), (torch.arange(6.0).view(2, 3), None), there=(0, 1)),
    {"seen": np.arange(6, dtype=">i4").reshape(2, 3), "no": np.zeros((0, 3)), "o": np.float32(0.1)},
    [np.array(["a", "bc"]), np.str_("x"), np.datetime64("2026-01-01"), np.bool_(True), np.array(3.5)],
]


@pytest.mark.parametrize("tree", TREES, ids=range(len(TREES)))
def test_a_tree_comes_back_as_it_was(tree: Any):
    assert alike(again(tree), tree)


DTYPES = sorted({d for d in vars(torch).values() if isinstance(d, torch.dtype) and d.itemsize}, key=str)
NO_FORM = {torch.bits16, torch.qint32}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_any_dtype_come_back_or_are_refused_by_place(dtype: torch.dtype):
    given = torch.zeros(4, 16, dtype=torch.uint8).random_(2 if dtype == torch.bool else 256).view(dtype)
    try:
        found = again({"x": [given]})["x"][0]
    except TypeError as error:
        refused = str(error)
    else:
        refused = ""
        assert found.dtype == dtype
        assert bytes_of(found) == bytes_of(given)
    assert refused.startswith("x[0]: ") == (dtype in NO_FORM)


def test_every_dtype_that_torch_computes_with_has_a_form():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.int8):
        assert alike(again(torch.ones(3, dtype=dtype)), torch.ones(3, dtype=dtype))
    for dtype in (torch.complex64, torch.complex128):
        given = torch.tensor([1 + 2j, math.nan], dtype=dtype)
        assert alike(again(given), given)


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (2, 3)])
def test_shapes_and_bits_that_are_no_numbers(shape: tuple[int, ...]):
    given = torch.full(shape, math.nan)
    assert alike(again(given), given)


def test_a_tensor_comes_back_contiguous_and_aligned():
    rows = torch.arange(35.0).view(5, 7)
    for given in (rows[:, 1:3], rows.T, rows[::2], rows[1], torch.ones(()).expand(3)):
        found = again({"pad": "x", "t": given})["t"]
        assert torch.equal(found, given)
        assert found.data_ptr() % 64 == 0
        assert found.untyped_storage().nbytes() == found.nbytes


def test_the_order_in_memory_is_kept_where_kernels_choose_by_it():
    image = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    found = again(image)
    assert torch.equal(found, image)
    assert found.stride() == image.stride()


def test_conjugates_negatives_and_gradients_are_what_they_say():
    given = torch.tensor([1 + 2j]).conj()
    assert torch.equal(again(given), given.resolve_conj())
    assert torch.equal(again(given.imag), given.imag.resolve_neg())
    assert not again(torch.ones(2, requires_grad=True)).requires_grad


def test_a_tensor_that_occurs_twice_is_stored_once_and_stays_one():
    tensor = torch.randn(1000)
    encoded = encode({"a": tensor, "b": (tensor, tensor.view(1000)), "c": tensor.clone()})
    assert encoded_size(encoded) == 2 * tensor.nbytes
    found = decode(encoded)
    assert found["a"] is found["b"][0] is found["b"][1]
    assert found["c"] is not found["a"]


def test_what_is_encoded_is_its_own():
    """Of the whole and of a part of it; tensors that share memory are no obstacle to a file."""
    whole = torch.arange(6.0)
    encoded = encode([whole, whole[:3], whole[3:]])
    assert len({tensor.data_ptr() for tensor in encoded.tensors.values()}) == 3
    assert alike(decode(load_encoded(as_bytes(encoded))[0]), [whole, whole[:3], whole[3:]])


def test_names_of_tensors_tell_where_they_stand():
    encoded = encode({"w": {"bias": torch.ones(1)}, "w.bias": torch.zeros(1), "kept": [0, torch.ones(2)]})
    assert list(encoded.tensors) == ["w.bias", "w.bias (2)", "kept[1]"]
    assert set(encode(torch.ones(1)).tensors) == {"the state"}


def test_pullbacks_stay_out_and_nothing_else_does():
    kept = Evaluation(Point((torch.ones(2),)), pullback=lambda q, p: None, number=7)  # type: ignore[arg-type, return-value]
    found = again([kept])[0]
    assert found.pullback is None
    assert found.number == 7
    with pytest.raises(TypeError, match=r"hook: an object of type .*function"):  # Ray wraps `print`
        encode({"hook": len})


class Own(NamedTuple):
    x: int


class Number(float):
    pass


@pytest.mark.parametrize(
    "strange",
    [
        Own(1),
        Number(1),
        OrderedDict(a=1),
        {1, 2},
        object(),
        1j,
        nn.Parameter(torch.ones(1)),
        torch.ones(2).to_sparse(),
        np.array([object()]),
        np.ma.masked_array([1], [True]),
        {(1, 2): 3},
        {True: 3},
        {1.5: 3},
        Path("x"),
        torch.float32,
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused_by_its_place(strange: Any):
    with pytest.raises(TypeError, match=r"^nodes\.block1\.kept\[3\]: "):
        encode({"nodes": {"block1": {"kept": (0, 1, 2, strange)}}})


def in_order(mapping: Any) -> Any:
    return dict(sorted(mapping.items())) if isinstance(mapping, dict) else mapping


def net() -> list[nn.Module]:
    return residual_net(4)


def memories() -> list[nn.Module]:
    torch.manual_seed(0)
    return [statespace.CSSM(8, 6, 5).double(), statespace.CTBE(5, 6, 4).double(), nn.Linear(4, 3).double()]


def exact_memories() -> list[nn.Module]:
    torch.manual_seed(0)
    return [statespace.CTB(8, 6, 5).double(), nn.LSTMCell(5, 4).double(), nn.Linear(4, 3).double()]


@pytest.mark.parametrize(
    ("make", "place", "rule", "edges"),
    [
        (net, {}, {"adaptive": Adam()}, None),
        (net, {}, {"adaptive": Soap()}, None),
        (net, {"stash": "graph"}, {}, None),
        (net, {"pairing": "current", "hold": 2}, {}, None),
        (net, {"pairing": "current"}, {}, ("0->1", "1->2", "2->3", "2->1", "0->3")),
        (memories, {}, {}, None),
        (memories, {"horizon": Horizon(5)}, {}, None),
        (exact_memories, {"exact": True}, {}, None),
    ],
    ids=["adam", "soap", "graphs", "held", "feedback", "memories", "blocks of time", "exact in time"],
)
def test_the_state_of_a_network_comes_back(
    make: Callable[[], Any], place: dict[str, Any], rule: dict[str, Any], edges: Any
):
    """What pullbacks are made of, and what is under way, among it; also node by node."""
    rule_of = learning(0.05, **rule)
    runtime = runtime_of(make(), samples(1, (8,)), rule=rule_of, edges=edges, **place)
    for x, y in samples(20, (8,)):
        list(runtime.present(x, y))
    cut = runtime.cut()
    assert alike(again(cut), cut)
    assert encoded_size(encode(cut)) > 3000
    parts = parts_of(cut.partition, runtime.program.graph.edges)
    found = joined_parts(cut.partition.tick, {node: again(part) for node, part in parts.items()})
    assert all(map(alike, map(in_order, found), map(in_order, cut.partition)))
    assert found.signals


TOLD = encode([Signal(Token(), torch.ones(2)), 2**70, math.inf, deque([1])])


@pytest.mark.parametrize(
    "tree",
    [
        ["os.system", "true"],
        ["Own", 1],
        ["tensor", "another", []],
        ["tensor"],
        ["tensor", "[0].value", ["torch.load", [0]]],
        ["Token", 1],
        ["array", "O", [1], "[0].value", []],
        ["array", "|V8", [1], "[0].value", []],
        ["dict", "a"],
        ["dict", ["list"], 1],
        ["int", "ten"],
        ["float", "00"],
        [["list"]],
        [],
        {"a": 1},
    ],
    ids=str,
)
def test_what_nobody_wrote_is_refused(tree: Any):
    with pytest.raises(ValueError):
        decode(Encoded(TOLD.tensors, {**TOLD.told, "tree": tree}))


def test_records_of_another_version_are_refused():
    records = {**TOLD.told["records"], "Token": ["tick", "first"]}
    with pytest.raises(ValueError, match="Token has other fields here: another version"):
        decode(TOLD._replace(told={**TOLD.told, "records": records}))
    with pytest.raises(ValueError, match="'Passage' is not known"):
        decode(TOLD._replace(told={**TOLD.told, "records": {"Passage": []}}))


def test_a_file_that_is_cut_off_or_nests_without_end_is_refused(tmp_path: Path):
    save_encoded(tmp_path / "x", TOLD, {"tick": "7"})
    found, metadata = load_encoded(tmp_path / "x")
    assert metadata == {"tick": "7"}
    assert alike(decode(found), decode(TOLD))
    data = (tmp_path / "x").read_bytes()
    for length in range(len(data)):
        with pytest.raises(ValueError, match="cut off, changed"):
            load_encoded(data[:length])
    deep = "[" * 100_000 + "]" * 100_000
    with pytest.raises(ValueError):
        load_encoded(_file({TOLD_KEY: deep}))


def _file(metadata: dict[str, str]) -> bytes:
    header = json.dumps({"__metadata__": metadata}).encode()
    return len(header).to_bytes(8, "little") + header


def test_decoding_onto_a_device_moves_tensors_alone():
    found = decode(encode({"t": torch.ones(2), "a": np.ones(2)}), "meta")
    assert found["t"].device.type == "meta"
    assert isinstance(found["a"], np.ndarray)
