"""Targets that are missing: refused with their place, or on their way as NaN and −100."""

import io
import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import DataLoader

from hamdist.errors import StreamError
from hamdist.streams import CSV, Iterable, JSONLines, Parquet, River, TorchDataset, open_stream

NONE = -100


def targets(stream):
    return torch.cat([batch.targets for batch in stream]).squeeze(-1).tolist()


def same(found, expected):
    assert found == pytest.approx(expected, nan_ok=True)


SPELT = ["", "nan", "NaN", "NAN", "-nan", "NA", "N/A", "null", "None", "<NA>"]


@pytest.mark.parametrize("spelt", SPELT)
def test_a_label_that_is_missing_in_a_text_file(tmp_path: Path, spelt: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"x,y\n1,a\n2,{spelt}\n3,b\n")
    with pytest.raises(StreamError, match=f"^{re.escape(f'{path}:3:y: the target is missing')}.*predict"):
        targets(CSV(path, "y"))
    assert targets(CSV(path, "y", missing_target="predict")) == [0, NONE, 1]
    if spelt:
        assert targets(CSV(path, "y", classes=["a", spelt, "b"])) == [0, 1, 2]


def test_a_number_that_is_missing_in_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,y\n1,\n2,0.5\n3,NaN\n")
    with pytest.raises(StreamError, match=f"^{re.escape(f'{path}:2:y: the target is missing')}"):
        targets(CSV(path, "y", kind="number"))
    same(targets(CSV(path, "y", kind="number", missing_target="predict")), [math.nan, 0.5, math.nan])


@pytest.mark.parametrize("labels", [[1.0, None, math.nan, 2.0], [1, None, None, 2], ["a", None, "nan", "b"]])
def test_parquet(tmp_path: Path, labels: list[object]) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0, 4.0], "y": pa.array(labels)}), path)
    with pytest.raises(StreamError, match=f"^{re.escape(f'{path}:row 1:y: the target is missing')}"):
        targets(Parquet(path, "y"))
    assert targets(Parquet(path, "y", missing_target="predict")) == [0, NONE, NONE, 1]


LINES = {
    "classes": (
        ['{"x": [1], "y": 1}', '{"x": [2], "y": null}', '{"x": [3]}', '{"x": [4], "y": NaN}'],
        [1, NONE],
    ),
    "numbers": (
        ['{"x": [1], "y": 1.0}', '{"x": [2], "y": null}', '{"x": [3]}', '{"x": [4], "y": "NaN"}'],
        [1, math.nan],
    ),
}


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_lines_of_json(kind: str, batch_size: int) -> None:
    lines, (told, gone) = LINES[kind]
    text = "\n".join(lines)
    with pytest.raises(StreamError, match=r"^the text:2: sample 1 has no target, .*missing_target: predict"):
        targets(JSONLines(io.StringIO(text), batch_size=batch_size))
    stream = JSONLines(io.StringIO(text), batch_size=batch_size, missing_target="predict")
    same(targets(stream), [told, gone, gone, gone])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([1, None, math.nan, np.float32("nan"), torch.tensor(math.nan)], [1, NONE, NONE, NONE, NONE]),
        ([0.5, None, math.nan, "NaN"], [0.5, math.nan, math.nan, math.nan]),
        ([torch.tensor(NONE), 2], [NONE, 2]),
    ],
)
def test_python_objects(given: list[object], expected: list[float]) -> None:
    samples = [(float(number), y) for number, y in enumerate(given)]
    same(targets(Iterable(samples, missing_target="predict")), expected)
    same(targets(TorchDataset(samples, shuffle=False, batch_size=2, missing_target="predict")), expected)


def test_a_row_of_several_numbers_is_missing_as_a_whole() -> None:
    rows = [(1.0, [1.0, 2.0]), (2.0, [math.nan, math.nan]), (3.0, [None, None])]
    found = torch.cat([b.targets for b in open_stream("iterable", iterable=rows, missing_target="predict")])
    assert found.isnan().tolist() == [[False, False], [True, True], [True, True]]
    rows.append((4.0, [math.nan, 1.0]))
    with pytest.raises(
        StreamError, match=r"^sample 3: feature 0 of the target is nan; expected finite numbers$"
    ):
        list(open_stream("iterable", iterable=rows, missing_target="predict"))


def test_arrays_and_loaders(tmp_path: Path) -> None:
    x, y = np.zeros((6, 2), np.float32), np.array([1, 2, np.nan, 3, np.nan, 4], np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    settings = {"inputs": str(tmp_path / "d.npz"), "shuffle": False, "batch_size": 2}
    with pytest.raises(StreamError, match=r"^sample 2: the target is missing \(nan\); with missing_target"):
        list(open_stream("arrays", **settings))
    same(targets(open_stream("arrays", missing_target="predict", **settings)), y.tolist())
    loader = DataLoader([(a, b) for a, b in zip(x, y, strict=True)], batch_size=2)
    same(targets(open_stream("torch", dataset=loader, missing_target="predict")), y.tolist())


@pytest.mark.parametrize("missing_target", ["refuse", "predict"])
def test_the_class_that_is_none_says_so_by_itself(missing_target: str) -> None:
    rows = [(torch.zeros(2), torch.tensor([1, NONE, 0])), (torch.zeros(2), torch.full((3,), NONE))]
    found = [b.targets for b in open_stream("iterable", iterable=rows, missing_target=missing_target)]
    assert torch.cat(found).tolist() == [[1, NONE, 0], [NONE] * 3]


def test_river() -> None:
    rows = [({"a": 1}, True), ({"a": 2}, None), ({"a": 3}, math.nan), ({"a": 4}, False)]
    with pytest.raises(StreamError, match=r"^River's list: sample 1: the target is missing; "):
        targets(River(rows))
    assert targets(River(rows, missing_target="predict")) == [1, NONE, NONE, 0]


def test_what_targets_look_like_must_be_told_first() -> None:
    text = '{"x": [1]}\n{"x": [1], "y": 1}\n'
    with pytest.raises(
        StreamError, match=r"^the text:1: sample 0: no sample so far has a target, .* begin with"
    ):
        targets(JSONLines(io.StringIO(text), missing_target="predict"))
    assert targets(JSONLines(io.StringIO(text), missing_target="predict", batch_size=2)) == [NONE, 1]


def test_a_choice_that_is_none() -> None:
    with pytest.raises(StreamError, match=r"^missing_target: must be one of refuse, predict, not 'drop'"):
        open_stream("digits", missing_target="drop")
