"""on_bad: skip: a sample that is not finite never enters; it is counted, and the first of a kind is told of."""

import io
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from hamdist.engine.encoding import decode, encode
from hamdist.errors import StreamError
from hamdist.streams import Batch, Stream, open_stream

ODD = {3: (math.nan, 0), 4: (math.inf, 0), 11: (-math.inf, 0)}


def rows(count: int = 17) -> list[Any]:
    return [([float(k), ODD.get(k, (1.0,))[0]], k % 3) for k in range(count)]


def lines() -> str:
    return "".join(json.dumps({"x": x, "y": y}) + "\n" for x, y in rows())


def csv_of(folder: Path) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join(["a,b,y", *(f"{a},{b},{y}" for (a, b), y in rows())]))
    return path


def single(folder: Path) -> dict[str, Stream]:
    """Sources of single samples."""
    skip = {"batch_size": 4, "on_bad": "skip"}
    x, y = (torch.tensor(each) for each in zip(*rows(), strict=True))
    return {
        "iterable": open_stream("iterable", iterable=rows(), **skip),
        "stdin": open_stream("stdin", file=io.StringIO(lines()), **skip),
        "csv": open_stream("csv", path=csv_of(folder), target="y", **skip),
        "torch": open_stream("torch", dataset=TensorDataset(x, y), shuffle=False, **skip),
    }


def firsts(batches: list[Batch]) -> list[list[float]]:
    return [batch.inputs[:, 0].tolist() for batch in batches]


def test_single_samples_are_left_out_before_they_are_batched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = [float(k) for k in range(17) if k not in ODD]
    for name, stream in single(tmp_path).items():
        caplog.clear()
        with caplog.at_level(logging.WARNING, "hamdist"):
            batches = list(stream)
        assert firsts(batches) == [kept[:4], kept[4:8], kept[8:12], kept[12:]], name
        assert stream.skipped == {"input": 3}
        assert stream.taken == 17
        (told,) = caplog.messages
        assert "sample 3: feature 1 of the input is nan; it is left out" in told


def test_whole_batches_are_where_a_source_gives_these(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = np.array([x for x, _ in rows()]), np.array([y for _, y in rows()])
    np.savez(tmp_path / "rows.npz", x=x, y=y)
    arrays = open_stream("arrays", inputs=tmp_path / "rows.npz", batch_size=4, shuffle=False, on_bad="skip")
    loader = DataLoader(TensorDataset(torch.tensor(x), torch.tensor(y)), 4)
    for stream in (arrays, open_stream("torch", dataset=loader, on_bad="skip")):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "hamdist"):
            assert firsts(list(stream)) == [[12.0, 13.0, 14.0, 15.0], [16.0]]
        assert stream.skipped == {"input": 12}
        assert stream.taken == 17
        (told,) = caplog.messages
        assert "sample 3: feature 1 of the input is nan; its batch, of 4, is left out" in told


def test_targets_and_inputs_are_counted_apart(caplog: pytest.LogCaptureFixture) -> None:
    items = [
        ([1.0], [1.0, 2.0]),
        ([1.0], [math.nan, 2.0]),
        ([math.inf], [1.0, 2.0]),
        ([1.0], [math.inf, 1.0]),
    ]
    stream = open_stream("iterable", iterable=items, on_bad="skip")
    with caplog.at_level(logging.WARNING, "hamdist"):
        assert len(list(stream)) == 1
    assert stream.skipped == {"target": 2, "input": 1}
    assert [message.split(";")[0] for message in caplog.messages] == [
        "sample 1: feature 0 of the target is nan",
        "sample 2: feature 0 of the input is inf",
    ]


def test_a_target_that_is_missing_is_none_that_is_bad() -> None:
    """Whether one may be missing is another question."""
    items = [([1.0], [1.0]), ([2.0], [math.nan]), ([3.0], [1.0])]
    predicted = open_stream("iterable", iterable=items, on_bad="skip", missing_target="predict")
    assert len(list(predicted)) == 3
    assert predicted.skipped == {}
    with pytest.raises(StreamError, match="sample 1: the target is missing"):
        list(open_stream("iterable", iterable=items, on_bad="skip"))


def test_positions_and_counts_go_on_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in single(tmp_path):
        if name == "stdin":
            continue
        stream, batches = single(tmp_path)[name], list[Batch]()
        states = [stream.state_dict()]
        for batch in stream:
            batches.append(batch)
            states.append(stream.state_dict())
        for position, state in enumerate(states):
            caplog.clear()
            other = single(tmp_path)[name]
            other.load_state_dict(decode(encode(state)))
            with caplog.at_level(logging.WARNING, "hamdist"):
                assert firsts(list(other)) == firsts(batches[position:])
            assert other.skipped == stream.skipped == {"input": 3}
            assert bool(caplog.messages) == (position == 0)  # it was told before


def test_what_is_odd_after_the_last_batch_is_counted() -> None:
    items = [([1.0], 0), ([2.0], 1), ([math.nan], 0)]
    stream = open_stream("iterable", iterable=items, batch_size=2, on_bad="skip")
    assert len(list(stream)) == 1
    assert stream.skipped == {"input": 1}
    assert stream.taken == 3


@pytest.mark.parametrize("size", [1, 2])
def test_a_stream_of_nothing_else_is_none(size: int, tmp_path: Path) -> None:
    items = [([math.nan], 0), ([math.nan], 1)]
    message = "the stream is empty, but for 2 samples that are not finite and were left out"
    with pytest.raises(StreamError, match=message):
        list(open_stream("iterable", iterable=items, batch_size=size, on_bad="skip"))
    np.savez(tmp_path / "rows.npz", x=np.full((2, 1), math.nan), y=np.zeros(2))
    with pytest.raises(StreamError, match=message):
        list(open_stream("arrays", inputs=tmp_path / "rows.npz", batch_size=size, on_bad="skip"))


def test_hold_out_samples_too(tmp_path: Path) -> None:
    x = np.arange(10.0)[:, None]
    x[7] = math.nan
    np.savez(tmp_path / "rows.npz", x=x, y=np.zeros(10, dtype=int))
    stream = open_stream(
        "arrays", inputs=tmp_path / "rows.npz", batch_size=2, shuffle=False, holdout=0.4, on_bad="skip"
    )
    assert firsts(list(stream)) == [[0, 1], [2, 3], [4, 5]]
    assert firsts(list(stream.holdout() or ())) == [[8, 9]]
    assert stream.skipped == {"hold-out input": 2}


def test_standardisation_never_sees_them() -> None:
    stream = open_stream("iterable", iterable=rows(), standardise=True, on_bad="skip")
    clean = open_stream(
        "iterable", iterable=[row for k, row in enumerate(rows()) if k not in ODD], standardise=True
    )
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(stream, clean, strict=True))


def test_by_default_they_end_the_run() -> None:
    with pytest.raises(StreamError, match="sample 3: feature 1 of the input is nan; expected finite numbers"):
        list(open_stream("iterable", iterable=rows()))
    with pytest.raises(StreamError, match="on_bad: must be one of stop, skip, not 'rollback'"):
        open_stream("digits", on_bad="rollback")
