"""Lines of JSON, from a pipe as from standard input."""

import io
import itertools
import json
import os
import re

import pytest
import torch

from hamdist.errors import StreamError
from hamdist.streams import Checked, JSONLines, live_lines
from hamdist.streams.live_lines import LiveLines
from hamdist.streams.missing import REMEDY

LINES = [{"x": [0.5 * n, 1], "y": n % 3} for n in range(5)]


def text(*objects):
    return io.StringIO("".join(f"{json.dumps(one)}\n" for one in objects))


def test_lines_in_batches():
    found = list(JSONLines(text(*LINES), batch_size=2, dtype=torch.float64))
    assert [batch.inputs.tolist() for batch in found] == [[[0, 1], [0.5, 1]], [[1, 1], [1.5, 1]], [[2, 1]]]
    assert [batch.targets.tolist() for batch in found] == [[0, 1], [2, 0], [1]]
    assert found[0].inputs.dtype == torch.float64


@pytest.mark.parametrize(
    ("y", "shape", "dtype"),
    [
        (2, (1,), torch.int64),
        (True, (1,), torch.int64),
        (2.0, (1, 1), torch.float32),
        ([1, 2], (1, 2), torch.float32),
    ],
)
def test_targets(y, shape, dtype):
    (batch,) = JSONLines(text({"x": 1, "y": y}))
    assert (tuple(batch.targets.shape), batch.targets.dtype) == (shape, dtype)
    assert batch.inputs.tolist() == [[1]]


def test_targets_may_be_left_out():
    (batch,) = JSONLines(text({"x": [1]}))
    assert batch.targets is None


def test_without_a_file_lines_come_from_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", text(*LINES))
    assert len(list(JSONLines())) == 5


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_batch_is_handed_out_as_soon_as_it_is_full(batch_size):
    """Would wait for ever, were a line more read than the batch needs: the writer stays open."""
    end_to_read, end_to_write = os.pipe()
    with os.fdopen(end_to_read) as reader, os.fdopen(end_to_write, "w") as writer:
        batches = iter(Checked(JSONLines(reader, batch_size=batch_size)))
        for first in (0, batch_size):
            for number in range(first, first + batch_size):
                print(json.dumps({"x": [number]}), file=writer, flush=True)
            assert next(batches).inputs[:, 0].tolist() == list(range(first, first + batch_size))


def test_after_its_samples_no_further_line_is_read():
    file = text(*LINES)
    assert [len(batch.inputs) for batch in JSONLines(file, batch_size=2, samples=3)] == [2, 1]
    assert json.loads(file.readline()) == LINES[3]


def test_an_endless_file():
    class Endless:
        name = "endless"
        numbers = itertools.count()

        def readline(self):
            return f'{{"x": [{next(self.numbers)}]}}\n'

    batches = iter(JSONLines(Endless(), batch_size=10))
    assert [next(batches).inputs[0].item() for _ in range(3)] == [0, 10, 20]


def refused(message, file, **settings):
    with pytest.raises(StreamError, match=f"^{re.escape(message)}$"):
        list(JSONLines(file, **settings))


EXPECTED = 'expected {"x": [...], "y": ...}'
GOOD = '{"x": [1, 2], "y": 0}\n\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"x": [1,, 2]}', f"the text:3:10: not JSON: Expecting value; {EXPECTED}"),
        ("[1, 2]", f"the text:3: not an object; {EXPECTED}"),
        (
            f'{{"x": [1, 2], "y": {"9" * 5000}}}',
            "the text:3: cannot be read: Exceeds the limit (4300 digits) for integer string conversion: value has 5000 "
            f"digits; use sys.set_int_max_str_digits() to increase the limit; {EXPECTED}",
        ),
        ('{"x": ["a", 2]}', "the text:3: the input is ['a', 2]; expected numbers, all of one shape"),
        ('{"x": [1, 2], "y": "a"}', "the text:3: the target is 'a'; expected numbers, all of one shape"),
        (
            '{"X": [1, 2]}',
            "the text:3: a mapping with the keys X; a sample is (x, y), (x, y, restart), "
            "{'x': ..., 'y': ..., 'restart': ...} or x alone",
        ),
        (
            '{"x": [1, 2, 3], "y": 0}',
            "the text:3: sample 1: the input has shape (3,) and float32, where it had shape (2,) and float32 before",
        ),
        (
            '{"x": [1, 2], "y": 0.5}',
            "the text:3: sample 1: the target has shape () and float32, where it had shape () and int64 before",
        ),
        ('{"x": [1, 2]}', f"the text:3: sample 1 has no target, where the samples before had one; {REMEDY}"),
    ],
)
def test_a_bad_line_is_found_by_its_number(line, message):
    refused(message, io.StringIO(GOOD + line), batch_size=2)


def test_errors_name_standard_input_or_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdin", io.StringIO("5\n"))
    refused(f"standard input:1: not an object; {EXPECTED}", None)
    path = tmp_path / "lines.jsonl"
    path.write_text("5\n")
    with path.open() as file:
        refused(f"{path}:1: not an object; {EXPECTED}", file)


def test_a_process_may_have_no_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(StreamError, match=r"^there is no standard input$"):
        list(JSONLines())


def test_lines_can_be_gone_through_once():
    stream = JSONLines(text(*LINES))
    list(stream)
    with pytest.raises(StreamError, match=r"^the text can be gone through once$"):
        iter(stream)


def test_bytes_that_are_no_text():
    file = io.TextIOWrapper(io.BytesIO(b'{"x": [1]}\n\xff\n'), encoding="utf-8")
    with pytest.raises(StreamError, match=r"^the text is not utf-8 text: .*0xff in position"):
        list(JSONLines(file))


def test_lists_within_lists_without_end():
    with pytest.raises(StreamError, match=r"^the text:3: cannot be read: maximum recursion depth exceeded"):
        list(JSONLines(io.StringIO(GOOD + "[" * 100_000)))


def heard(data, size):
    """The lines of a pipe from which so many bytes at a time come."""
    end_to_read, end_to_write = os.pipe()
    with os.fdopen(end_to_read, "rb") as reader, os.fdopen(end_to_write, "wb", buffering=0) as writer:
        lines = LiveLines(reader.fileno(), "utf-8")
        for first in range(0, len(data), size):
            writer.write(data[first : first + size])
            lines._wait()
        writer.close()
        return [line.text for line in lines]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_live_lines_end_where_they_do_however_they_come(size):
    data = '{"x": 1}\n\n{"x": "ö"}\r\n{"x": 3}\r{"x": 4}\r\r\n{"x": 5}'.encode()
    assert heard(data, size) == [line.decode() for line in data.splitlines(keepends=True)]


@pytest.mark.parametrize("size", [1, 30])
def test_a_line_without_end_is_refused(size, monkeypatch):
    monkeypatch.setattr(live_lines, "LONGEST", 60)
    assert heard(b"x" * 59 + b"\n", size) == ["x" * 59 + "\n"]
    with pytest.raises(StreamError, match=r"^a line of standard input has more than 60 bytes$"):
        heard(b"x" * 90, size)
