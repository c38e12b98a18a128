"""A stream that is left anywhere, and a new one that goes on there: what follows is the same, bit for bit."""

import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from hamdist.engine.encoding import decode, encode
from hamdist.errors import StreamError
from hamdist.streams import Batch, Iterable, JSONLines, Stream, open_stream
from hamdist.streams.position import Counted
from hamdist.streams.signals import BLOCK

Make = Callable[[], Stream]
GENERATOR = np.random.default_rng(0)
X, Y = GENERATOR.normal(size=(23, 3)), GENERATOR.integers(0, 3, 23)


class Rows(Dataset[Any]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, row: int) -> Any:
        return torch.tensor(X[row]), int(Y[row])


class Coming(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return ((X[row], int(Y[row])) for row in range(len(X)))


class Keeping:
    """Items that say where they are."""

    def __init__(self, items: list[Any]) -> None:
        self.items, self.place, self.loaded, self.made = items, 0, 0, 0

    def __iter__(self) -> Iterator[Any]:
        self.place, self.loaded = self.loaded, 0
        for item in self.items[self.place :]:
            self.place += 1
            self.made += 1
            yield item

    def state_dict(self) -> dict[str, Any]:
        return {"place": [self.place]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        (self.loaded,) = state["place"]
        self.place = self.loaded


class KeepingLoader(Keeping):
    batch_size = 4
    batch_sampler = object()


BATCHES = [(torch.tensor(X[k : k + 4]), torch.tensor(Y[k : k + 4])) for k in range(0, 20, 4)]


def seeded_loader() -> DataLoader[Any]:
    return DataLoader(Rows(), 4, shuffle=True, generator=torch.Generator().manual_seed(5), drop_last=True)


def shuffled_loader() -> DataLoader[Any]:
    return DataLoader(Rows(), 4, shuffle=True, drop_last=True)


def csv_file(folder: Path) -> Path:
    path = folder / "table.csv"
    rows = [f"{a:.6f},{b:.6f},{'xyzw'[k % 3 if k < 15 else 3]}" for k, (a, b, _) in enumerate(X)]
    path.write_text("\n".join(["a,b,label", *rows]))
    return path


def parquet_file(folder: Path) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = folder / "table.parquet"
    table = pa.table(
        {"a": X[:, 0], "b": X[:, 1], "label": ["xyzw"[k % 3 if k < 15 else 3] for k in range(23)]}
    )
    pq.write_table(table, path, row_group_size=7)
    return path


def arrays_file(folder: Path) -> Path:
    np.savez(folder / "arrays.npz", x=X, y=Y)
    np.save(folder / "x.npy", X)
    return folder / "arrays.npz"


def sources(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    npz = arrays_file(folder)
    few = {"batch_size": 5, "holdout": 0.99}
    return {
        "digits": ("digits", {**few, "samples": 61}),
        "digits in turn": ("digits", {**few, "samples": 61, "shuffle": False}),
        "arrays": ("arrays", {"inputs": npz, "batch_size": 4, "samples": 60, "holdout": 0.2}),
        "mapped arrays": ("arrays", {"inputs": folder / "x.npy", "batch_size": 4}),
        "signals": ("signals", {"signal": "smoHfHa", "window": 3, "batch_size": 7, "samples": 100}),
        "lectures": ("lectures", {"rounds": 2, "length": 7, "samples": 40}),
        "csv": ("csv", {"path": csv_file(folder), "target": "label", "batch_size": 3}),
        "csv without header": (
            "csv",
            {"path": csv_file(folder), "header": False, "target": 2, "features": [], "kind": "class"},
        ),
        "parquet": ("parquet", {"path": parquet_file(folder), "target": "label", "batch_size": 3}),
        "river": ("river", {"dataset": "Phishing", "batch_size": 9, "samples": 60}),
        "river generator": ("river", {"dataset": "synth.Agrawal", "batch_size": 4, "samples": 30}),
        "torch dataset": ("torch", {"dataset": Rows(), "batch_size": 4, "samples": 60}),
        "iterable dataset": ("torch", {"dataset": Coming(), "batch_size": 4}),
        "list": (
            "iterable",
            {"iterable": [(list(x), int(y)) for x, y in zip(X, Y, strict=True)], "batch_size": 4},
        ),
    }


NAMES = (
    "digits",
    "digits in turn",
    "arrays",
    "mapped arrays",
    "signals",
    "lectures",
    "csv",
    "parquet",
    "river",
    "river generator",
    "torch dataset",
    "iterable dataset",
    "list",
)
STANDARDISED = ("digits", "arrays", "signals", "csv", "river", "torch dataset")


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        _equal(a.inputs, b.inputs) and _equal(a.targets, b.targets) and _equal(a.restarts, b.restarts)
        for a, b in zip(one, other, strict=True)
    )


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and torch.equal(one.nan_to_num(7), other.nan_to_num(7))
    )


def check(make: Make, repeats: bool = True) -> list[Batch]:
    """Every position of a run, its state held until the end, and as a file has it; returns all batches.

    repeats: whether a stream that begins anew gives the same again.
    """
    stream, batches = make(), list[Batch]()
    states = [stream.state_dict()]
    for batch in stream:
        batches.append(batch)
        states.append(stream.state_dict())
    assert stream.seeks
    assert len(states) > 3
    for position, state in enumerate(states):
        other = make()
        other.load_state_dict(decode(encode(state)))
        assert same(list(other), batches[position:]), position
    for position in (0, len(batches) // 2):  # and by itself, after which it begins anew
        stream.load_state_dict(states[position])
        assert same(list(stream), batches[position:])
        assert not repeats or same(list(stream), batches)
    return batches


@pytest.mark.parametrize("name", NAMES)
def test_every_source_goes_on_from_every_position(name: str, tmp_path: Path) -> None:
    source, settings = sources(tmp_path)[name]
    check(lambda: open_stream(source, seed=3, **settings))


@pytest.mark.parametrize("name", STANDARDISED)
def test_standardised_ones_too_and_their_hold_outs(name: str, tmp_path: Path) -> None:
    source, settings = sources(tmp_path)[name]

    def make() -> Stream:
        return open_stream(source, standardise=True, **settings)

    check(make)
    whole, later = make(), make()
    states = [whole.state_dict() for _ in whole]
    later.load_state_dict(states[1])
    list(later)
    ends = [list(stream.holdout() or ()) for stream in (whole, later)]
    assert same(*ends)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "torch loader"])
def test_a_state_is_text(name: str, tmp_path: Path) -> None:
    """Of sources, that is; standardisation and a loader have arrays in theirs."""
    source, settings = sources(tmp_path)[name]
    stream = open_stream(source, **settings)
    batches = iter(stream)
    next(batches)
    next(batches)
    other = open_stream(source, **settings)
    other.load_state_dict(json.loads(json.dumps(stream.state_dict())))
    assert same(list(other), list(batches))


def test_another_size_of_batches_may_follow(tmp_path: Path) -> None:
    for name in ("digits", "arrays", "csv", "signals"):
        source, settings = sources(tmp_path)[name]
        stream = open_stream(source, **settings)
        batches = iter(stream)
        next(batches)
        other = open_stream(source, **(settings | {"batch_size": 1}))
        other.load_state_dict(stream.state_dict())
        rest = [torch.cat([batch.inputs for batch in each]) for each in (batches, other)]
        assert torch.equal(*rest)


# What is addressed, and what is gone through


def test_nothing_of_before_is_read_where_rows_can_be_addressed() -> None:
    read: list[int] = []

    class Noting(Rows):
        def __getitem__(self, row: int) -> Any:
            read.append(row)
            return super().__getitem__(row)

    def make() -> Stream:
        return open_stream("torch", dataset=Noting(), batch_size=4, samples=1000, shuffle=False)

    batches = iter(first := make())
    for _ in range(100):
        next(batches)
    read.clear()
    second = make()
    second.load_state_dict(first.state_dict())
    next(iter(second))
    assert read == [400 % 23 + k for k in range(4)]


def test_signals_begin_where_they_are_asked_to() -> None:
    whole = open_stream("signals", signal="smoHfHa", window=2, batch_size=3, samples=3 * BLOCK)
    expected = torch.cat([batch.inputs for batch in whole])
    for taken in (1, BLOCK - 1, BLOCK, 2 * BLOCK + 5):
        later = open_stream("signals", signal="smoHfHa", window=2, batch_size=3, samples=3 * BLOCK)
        state = later.state_dict()
        state["stream"]["samples"] = taken
        later.load_state_dict(state)
        assert torch.equal(torch.cat([batch.inputs for batch in later]), expected[taken:])


def test_labels_go_on_in_the_order_of_their_appearance(tmp_path: Path) -> None:
    path = csv_file(tmp_path)
    stream = open_stream("csv", path=path, target="label", batch_size=2)
    batches = iter(stream)
    for _ in range(2):
        next(batches)
    state = stream.state_dict()
    assert state["stream"]["labels"]["names"] == ["x", "y", "z"]
    list(batches)
    assert state["stream"]["labels"]["names"] == ["x", "y", "z"]  # a later batch has brought another
    other = open_stream("csv", path=path, target="label", batch_size=2)
    other.load_state_dict(state)
    assert {int(label) for batch in other for label in batch.targets if batch.targets is not None} == {
        0,
        1,
        2,
        3,
    }


# Loaders


def test_a_loader_that_shuffles_by_a_generator_of_its_own() -> None:
    check(lambda: open_stream("torch", dataset=seeded_loader(), samples=64), repeats=False)


def test_a_loader_that_shuffles_by_torch_s_own() -> None:
    """Each run has an order of its own; whoever goes on has that of the run."""

    def make() -> Stream:
        return open_stream("torch", dataset=shuffled_loader(), samples=64)

    stream, batches, states = make(), list[Batch](), list[dict[str, Any]]()
    for batch in stream:
        batches.append(batch)
        states.append(stream.state_dict())
    for position, state in enumerate(states, 1):
        torch.manual_seed(position)
        other = make()
        other.load_state_dict(decode(encode(state)))
        assert same(list(other), batches[position:])


def test_a_loader_that_says_where_it_is_goes_on_by_itself() -> None:
    """As torchdata's StatefulDataLoader."""
    made: list[KeepingLoader] = []

    def make() -> Stream:
        made.append(KeepingLoader(BATCHES))
        return open_stream("torch", dataset=made[-1], samples=48)

    check(make)
    stream = make()
    stream.load_state_dict({**stream.state_dict(), **_after(stream, 3)})
    assert made[-1].made == 0
    next(iter(stream))
    assert made[-1].made == 1  # nothing was gone through


def _after(stream: Stream, batches: int) -> dict[str, Any]:
    state = stream.state_dict()
    inner = state["stream"] | {"samples": 4 * batches}
    return {"stream": inner | {"loader": {"loaded": 0, "random": {}, "own": {"place": [batches]}}}}


def test_a_dataset_that_says_where_it_is_goes_on_by_itself() -> None:
    class Own(Keeping, IterableDataset[Any]):
        pass

    made: list[Own] = []

    def make() -> Stream:
        made.append(Own([(x, int(y)) for x, y in zip(X, Y, strict=True)]))
        return open_stream("torch", dataset=made[-1], batch_size=4)

    check(make)


# Iterables


def test_an_iterable_that_says_where_it_is_goes_on_by_itself() -> None:
    items = [(x, int(y)) for x, y in zip(X, Y, strict=True)]
    check(lambda: open_stream("iterable", iterable=Keeping(items), batch_size=4))
    check(lambda: open_stream("iterable", iterable=lambda: Keeping(items), batch_size=4))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Iterable(iter([([1.0], 0)])),
        lambda: Iterable(lambda: [([1.0], 0)]),
        lambda: JSONLines(io.StringIO('{"x": [1], "y": 0}\n')),
        lambda: open_stream("iterable", iterable=iter([([1.0], 0)])),
    ],
)
def test_what_cannot_be_asked_for_what_was_does_not_seek(make: Make) -> None:
    assert not make().seeks


def test_a_function_is_called_once_a_pass_however_often_one_asks() -> None:
    calls: list[int] = []

    def opened() -> list[Any]:
        calls.append(len(calls))
        return [([1.0], 0), ([2.0], 1)]

    stream = Iterable(opened)
    assert not stream.seeks
    list(stream)
    assert not stream.seeks
    stream.state_dict()
    assert calls == [0]
    list(stream)
    assert calls == [0, 1]


def test_what_does_not_seek_is_sent_again_and_counts_on() -> None:
    lines = [f'{{"x": [{k}], "y": {k % 2}}}\n' for k in range(6)]
    first = open_stream("stdin", file=io.StringIO("".join(lines)), batch_size=2, samples=6)
    next(iter(first))
    second = open_stream("stdin", file=io.StringIO("".join(lines[first.taken :])), batch_size=2, samples=6)
    second.load_state_dict(first.state_dict())
    assert [batch.inputs.flatten().tolist() for batch in second] == [[2.0, 3.0], [4.0, 5.0]]
    assert second.taken == 6
    third = open_stream("stdin", file=io.StringIO('{"x": [1, 2], "y": 0}\n'), batch_size=1)
    third.load_state_dict(first.state_dict())
    with pytest.raises(
        StreamError, match=r"sample 2: the input has shape \(2,\).*, where it had shape \(1,\)"
    ):
        list(third)


def test_a_missing_target_right_after_the_position() -> None:
    """What a target looks like is known from before."""
    items = [([1.0], 2.0), ([2.0], None), ([3.0], 1.0), ([4.0], None)]

    def make() -> Stream:
        return open_stream("iterable", iterable=items, missing_target="predict")

    batches = check(make)
    assert math.isnan(float(batches[1].targets if batches[1].targets is not None else 0))


# Wrong states


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"source": "CSV"}, "its source is 'CSV', and this stream's is 'Digits'"),
        ({"seed": 4}, "its seed is 4, and this stream's is 3"),
        ({"rows": 5}, "its rows is 5"),
        ({"samples": -1}, "a number of samples is -1"),
        ({"samples": "7"}, "a number of samples is '7'"),
        ({"samples": True}, "a number of samples is True"),
        ({"samples": 1000}, "it is after sample 1000, where the stream has 40 samples"),
        ({"form": 3}, "it is none of Digits"),
        ({"form": {"inputs": {"shape": [1], "dtype": "nn"}, "targets": None}}, "'nn' is no dtype"),
        ({"colour": 1}, "it has colour, of which nothing is known here"),
        ({"skipped": 3}, "it is none of Digits"),
    ],
)
def test_a_state_of_another_stream_is_refused(changed: dict[str, Any], message: str) -> None:
    stream = open_stream("digits", seed=3, samples=40)
    state = stream.state_dict()
    state["stream"].update(changed)
    with pytest.raises(StreamError, match=message):
        stream.load_state_dict(state)
    before = next(iter(open_stream("digits", seed=3, samples=40)))
    assert torch.equal(next(iter(stream)).inputs, before.inputs)  # it stands where it stood


def test_a_state_that_lacks_something_is_refused() -> None:
    stream = open_stream("digits", standardise=True)
    next(iter(stream))
    state = stream.state_dict()
    for wrong in (
        {},
        {"stream": state["stream"]},
        {**state, "moments": {"count": 1}},
        {**state, "moments": 7},
    ):
        with pytest.raises(StreamError, match="state: it "):
            stream.load_state_dict(wrong)
    with pytest.raises(StreamError, match="state: it is a list"):
        stream.load_state_dict([])  # type: ignore[arg-type]


def test_a_stream_of_one_s_own_may_keep_no_position() -> None:
    class Bare(Stream):
        def __iter__(self) -> Iterator[Batch]:
            yield Batch(torch.zeros(1, 1), torch.zeros(1, 1))

    assert not Bare().seeks
    Bare().load_state_dict(Bare().state_dict())
    with pytest.raises(StreamError, match="a stream of type Bare keeps no position"):
        Bare().load_state_dict({"samples": 3})


def test_every_source_says_where_it_is() -> None:
    from hamdist.streams import SOURCES

    assert all(issubclass(source, Counted) for source in SOURCES.values())
