"""Streams by name, and what the package may import."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import hamdist.streams
from hamdist.errors import StreamError
from hamdist.streams import Digits, Signals, Standardise, open_stream
from hamdist.streams.sources import SOURCES

PACKAGE = Path(hamdist.streams.__file__).parent


def first(stream):
    return next(iter(stream))


def open_every_source(tmp_path, monkeypatch):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    np.save(tmp_path / "x.npy", np.ones((4, 2)))
    (tmp_path / "t.csv").write_text("x,y\n1,a\n2,b\n")
    pq.write_table(pa.table({"x": [1.0, 2.0], "y": ["a", "b"]}), tmp_path / "t.parquet")
    monkeypatch.setattr("sys.stdin", io.StringIO('{"x": [1, 2], "y": 0}\n'))
    settings = {
        "digits": {"batch_size": 2},
        "signals": {"signal": "smoHfHa"},
        "lectures": {},
        "arrays": {"inputs": str(tmp_path / "x.npy")},
        "csv": {"path": str(tmp_path / "t.csv"), "target": "y"},
        "parquet": {"path": str(tmp_path / "t.parquet"), "target": "y"},
        "river": {"dataset": "Phishing"},
        "torch": {"dataset": [(1.0, 2)]},
        "iterable": {"iterable": [(1.0, 2)]},
        "stdin": {},
    }
    return {source: open_stream(source, dtype=torch.float64, **settings[source]) for source in SOURCES}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # River's file stays open
def test_every_source_opens_by_its_name(tmp_path, monkeypatch):
    for source, stream in open_every_source(tmp_path, monkeypatch).items():
        batch = first(stream)
        assert batch.inputs.dtype == torch.float64, source
        assert batch.inputs.dim() == 2, source


def test_the_settings_and_the_seed_reach_the_source():
    given = first(open_stream("digits", batch_size=5, flat=False, seed=3))
    assert torch.equal(given.inputs, first(Digits(batch_size=5, flat=False, seed=3)).inputs)
    assert not torch.equal(given.inputs, first(Digits(batch_size=5, flat=False, seed=4)).inputs)


def test_a_source_without_randomness_never_sees_the_seed():
    assert torch.equal(
        first(open_stream("signals", signal="squHfHa", seed=9)).inputs, first(Signals("squHfHa")).inputs
    )


def test_standardised_if_asked():
    given = open_stream("digits", standardise=True, batch_size=5)
    expected = Standardise(Digits(batch_size=5, dtype=torch.float64), torch.float32)
    assert torch.equal(first(given).inputs, first(expected).inputs)
    assert given.holdout() is not None
    assert given.samples == 1438


@pytest.mark.parametrize("standardise", [False, True])
def test_always_checked(standardise):
    rows = [([1.0, 2.0], 0), ([1.0, float("nan")], 0)]
    stream = open_stream("iterable", iterable=rows, batch_size=2, standardise=standardise)
    message = "sample 1: feature 1 of the input is nan; expected finite numbers"
    with pytest.raises(StreamError, match=f"^{re.escape(message)}$"):
        list(stream)


def refused(message, source, **settings):
    with pytest.raises(StreamError, match=f"^{re.escape(message)}"):
        open_stream(source, **settings)


def test_an_unknown_source():
    refused(
        "source: there is no source 'digit'; there are digits, signals, lectures, arrays, csv, parquet, river, torch, "
        "iterable, stdin; did you mean 'digits'?",
        "digit",
    )


def test_all_wrong_settings_are_reported_at_once():
    with pytest.raises(StreamError) as caught:
        open_stream("csv", path=3, batchsize=4, header="no", features="age", classes=None)
    assert str(caught.value).splitlines() == [
        "target: the source csv needs this setting",
        "path: expected text or a path, not 3",
        "batchsize: the source csv has no such setting; it has path, target, features, classes, kind, header, "
        "delimiter, batch_size, samples; did you mean 'batch_size'?",
        "header: expected true or false, not 'no'",
        "features: expected a list or null, not 'age'",
    ]
    assert [problem.key for problem in caught.value.problems][:2] == ["target", "path"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": "16"}, "batch_size: expected a whole number, not '16'"),
        ({"batch_size": True}, "batch_size: expected a whole number, not True"),
        ({"samples": 1.5}, "samples: expected a whole number or null, not 1.5"),
        ({"holdout": "0.2"}, "holdout: expected a number, not '0.2'"),
        ({"shuffle": 1}, "shuffle: expected true or false, not 1"),
        ({"dtype": torch.int64}, "dtype: must be a floating one, not torch.int64"),
    ],
)
def test_settings_of_a_wrong_type(settings, message):
    refused(message, "digits", **settings)


def test_a_whole_number_is_a_number():
    assert open_stream("digits", holdout=0).holdout() is None


def test_a_missing_file():
    refused("path: there is no file no.csv (looked for from ", "csv", path="no.csv", target="y")


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_streams_know_nothing_of_the_rest_of_the_package():
    ours = {name for path in PACKAGE.glob("*.py") for name in imports_of(path) if name.startswith("hamdist")}
    assert {name for name in ours if not name.startswith("hamdist.streams.")} == {
        "hamdist.errors",
        "hamdist.objects",
    }


@pytest.mark.slow
def test_optional_and_slow_packages_are_imported_when_they_are_needed():
    wanted = ["ray", "river", "pyarrow", "sklearn", "pandas"]
    program = f"import sys, hamdist.streams; print([name for name in {wanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_map_names_every_public_name_and_every_file_it_mentions_is_there():
    text = hamdist.streams.__doc__
    assert all(re.search(rf"^{name}\b", text, re.MULTILINE) for name in hamdist.streams.__all__)
    assert all((PACKAGE / name).exists() for name in re.findall(r"\w+\.py", text))
