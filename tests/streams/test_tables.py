"""CSV and Parquet, against the csv module and pyarrow's own reading."""

import csv
import re
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hamdist.errors import MissingExtraError, StreamError
from hamdist.streams import CSV, Parquet, open_stream

F64 = torch.float64
HEADER = ["age", "height", "kind", "weight"]
rng = np.random.default_rng(1)
AGES = rng.integers(1, 90, 57).tolist()
HEIGHTS = rng.normal(170, 10, 57).tolist()
KINDS = ["cat", "dog", "cat, large"] * 19
WEIGHTS = rng.normal(5, 1, 57).tolist()


@pytest.fixture
def csv_path(tmp_path):
    path = tmp_path / "animals.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *zip(AGES, HEIGHTS, KINDS, WEIGHTS, strict=True)])
    return path


@pytest.fixture
def parquet_path(tmp_path):
    path = tmp_path / "animals.parquet"
    columns = dict(zip(HEADER, (AGES, HEIGHTS, KINDS, WEIGHTS), strict=True))
    pq.write_table(pa.table(columns), path, row_group_size=10)
    return path


@pytest.fixture(params=["csv", "parquet"])
def table(request, csv_path, parquet_path):
    """Either source with its file, to be opened with the same settings."""
    source, path = {"csv": (CSV, csv_path), "parquet": (Parquet, parquet_path)}[request.param]
    return lambda *args, **settings: source(path, *args, **settings)


def collect(stream):
    inputs, targets, *_ = zip(*stream, strict=True)
    return torch.cat(inputs).numpy(), torch.cat(targets).numpy()


@pytest.mark.parametrize("batch_size", [1, 10, 57, 100])
def test_classes_in_the_order_of_first_appearance(table, batch_size):
    inputs, targets = collect(table("kind", batch_size=batch_size, dtype=F64))
    assert np.array_equal(inputs, np.column_stack([AGES, HEIGHTS, WEIGHTS]))
    assert targets.tolist() == [0, 1, 2] * 19
    assert targets.dtype == np.int64


def test_classes_in_the_order_given(table):
    stream = table("kind", classes=["dog", "cat, large", "cat"])
    assert collect(stream)[1].tolist() == [2, 0, 1] * 19
    assert stream.classes == 3
    assert table("kind").classes is None


def test_a_number_to_predict_from_chosen_features(table):
    inputs, targets = collect(table("weight", features=["height", "age"], kind="number", dtype=F64))
    assert np.array_equal(inputs, np.column_stack([HEIGHTS, AGES]))
    assert np.array_equal(targets, np.array(WEIGHTS)[:, None])


def test_without_a_target(table):
    batch = next(iter(table(None, features=["age"], batch_size=57)))
    assert batch.targets is None
    assert batch.inputs[:, 0].tolist() == AGES


def test_samples_cut_the_table_and_every_iteration_starts_again(table):
    stream = table("kind", batch_size=4, samples=10)
    assert [len(batch.inputs) for batch in stream] == [4, 4, 2]
    assert np.array_equal(*(collect(stream)[0] for _ in range(2)))
    assert stream.samples == 10


def test_parquet_knows_its_length_and_csv_does_not(csv_path, parquet_path):
    assert CSV(csv_path, "kind").samples is None
    assert Parquet(parquet_path, "kind").samples == 57
    assert Parquet(parquet_path, "kind", samples=58).samples == 57


def test_rows_are_counted_where_that_is_no_work(csv_path, parquet_path, monkeypatch):
    assert Parquet(parquet_path, "kind", samples=8).available == 57
    assert CSV(csv_path, "kind", samples=8).available == 57
    assert open_stream("csv", path=str(csv_path), target="kind", standardise=True).available == 57
    monkeypatch.setattr("hamdist.streams.csv_file.BYTES_COUNTED", csv_path.stat().st_size - 1)
    assert CSV(csv_path, "kind").available is None


def test_a_csv_file_is_read_as_it_is_asked_for(csv_path):
    with csv_path.open("a") as file:
        file.write("not,a,proper,row\n" * 10_000)  # beyond what is buffered
        file.write("\x00")
    batches = iter(CSV(csv_path, "kind", batch_size=57))
    assert len(next(batches).inputs) == 57
    with pytest.raises(StreamError, match="'not' is not a number"):
        next(batches)


def test_labels_of_a_config_are_compared_as_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,y\n1,10\n2,20\n3,10\n")
    assert collect(CSV(path, "y", classes=[20, 10]))[1].tolist() == [1, 0, 1]
    pq.write_table(pa.table({"x": [1.0, 2.0], "y": [True, False]}), tmp_path / "t.parquet")
    assert collect(Parquet(tmp_path / "t.parquet", "y", classes=[False, True]))[1].tolist() == [1, 0]


def test_without_a_header_columns_are_numbered(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("1;2;a\n\n3;4;b\n")
    inputs, targets = collect(CSV(path, 2, header=False, delimiter=";"))
    assert inputs.tolist() == [[1, 2], [3, 4]]
    assert targets.tolist() == [0, 1]
    assert collect(CSV(path, 2, features=[1], header=False, delimiter=";"))[0].tolist() == [[2], [4]]


def test_spaces_a_byte_order_mark_and_quotes_are_no_part_of_a_value(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffx, y\r\n"1", a\r\n 2 ,a \r\n'.encode())
    inputs, targets = collect(CSV(path, "y"))
    assert inputs.tolist() == [[1], [2]]
    assert targets.tolist() == [0, 0]


def refused(message, source, *args, **settings):
    with pytest.raises(StreamError, match=f"^{re.escape(message)}"):
        list(source(*args, **settings))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("old,170,dog,5", ":59:age: 'old' is not a number; expected a number"),
        ("3,,dog,5", ":59:height: the node is empty; expected a number"),
        (
            "3,170,,5",
            ":59:kind: the target is missing; with missing_target: predict such samples are predicted",
        ),
        ("3,170,dog", ":59: 3 values, where the first line has 4"),
        (
            "3,170,dgo,5",
            ":59:kind: the label 'dgo' is not among the classes cat, dog, cat, large; did you mean",
        ),
    ],
)
def test_a_bad_row_is_found_by_file_line_and_column(csv_path, line, problem):
    with csv_path.open("a") as file:
        file.write(line + "\n")
    refused(f"{csv_path}{problem}", CSV, csv_path, "kind", classes=["cat", "dog", "cat, large"])


def test_a_bad_row_of_parquet_is_found_by_its_number(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": [1.0, None], "y": ["a", "b"]}), path)
    refused(f"{path}:row 1:x: the node is empty; expected a number", Parquet, path, "y")


def test_a_file_that_cannot_be_decoded(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"x,y\n1,a\n2,\xff\n")
    refused(f"{path}:", CSV, path, "y")
    refused(f"{path} cannot be read as Parquet: ", Parquet, path, "y")


def test_columns_that_are_not_there_are_reported_together(table):
    with pytest.raises(StreamError) as caught:
        table("kinds", features=["age", "hight"])
    features, target = str(caught.value).splitlines()
    assert features.startswith("features: ")
    assert features.endswith(
        "has no column 'hight'; it has age, height, kind, weight; did you mean 'height'?"
    )
    assert target.startswith("target: ")
    assert target.endswith("has no column 'kinds'; it has age, height, kind, weight; did you mean 'kind'?")


def test_settings_that_contradict_each_other(csv_path):
    refused("features: the target 'kind' is among them", CSV, csv_path, "kind", features=["kind", "age"])
    refused(
        "classes: a target of kind number has no classes; leave them out",
        *(CSV, csv_path, "weight"),
        kind="number",
        classes=["a"],
    )
    refused("classes: a label stands twice in a, a", CSV, csv_path, "kind", classes=["a", "a"])
    refused(
        "classes: an empty list; list every label, or leave classes out", CSV, csv_path, "kind", classes=[]
    )
    refused(
        "kind: must be one of class, number, not 'numbers'; did you mean 'number'?",
        *(CSV, csv_path, "kind"),
        kind="numbers",
    )
    refused("delimiter: must be one character, not '||'", CSV, csv_path, "kind", delimiter="||")


def test_a_table_of_a_target_alone(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("y\n1\n")
    refused(f"features: none are left in {path}, which has y", CSV, path, "y")


def test_headers_and_files_that_are_none(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("")
    refused(f"{path} is empty", CSV, path, "y")
    path.write_text("x,y,x\n1,2,3\n")
    refused(f"{path}:1: the header names a column twice: x", CSV, path, "y")
    refused(f"path: there is no file {tmp_path / 'no.csv'}", CSV, tmp_path / "no.csv", "y")
    refused(f"path: there is no file {tmp_path / 'no.parquet'}", Parquet, tmp_path / "no.parquet", "y")


def test_parquet_without_pyarrow_says_what_to_install(parquet_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = "the parquet stream needs an optional package: pip install 'hamdist[parquet]'"
    with pytest.raises(MissingExtraError, match=f"^{re.escape(message)}$"):
        Parquet(parquet_path, "kind")


@pytest.mark.parametrize(("delimiter", "used"), [(";", ","), ("\t", ","), ("|", ","), (",", ";")])
@pytest.mark.parametrize("header", [True, False])
def test_another_delimiter_is_recognised(tmp_path, delimiter, used, header):
    path = tmp_path / "t.csv"
    path.write_text(
        "\n".join(delimiter.join(row) for row in (["x", "y"], ["1,5" if delimiter == ";" else "1", "a"]))
    )
    columns = {"target": "y"} if header else {"target": 1}
    shown = listed_by(path, used, header)
    refused(
        f"delimiter: {path} has the columns {shown} when split at {used!r}; is it {delimiter!r}?",
        CSV,
        path,
        header=header,
        delimiter=used,
        **columns,
    )


def listed_by(path, used, header):
    """The columns as they come with a wrong delimiter."""
    return path.read_text().splitlines()[0] if header else "0"


def test_a_column_that_is_in_no_splitting_is_missing(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a;b,c\n1;2,3\n")
    refused(f"target: {path} has no column 'z'; it has a;b, c", CSV, path, "z")
