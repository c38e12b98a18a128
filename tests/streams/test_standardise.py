"""Online standardisation, against River's StandardScaler."""

import io
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from river.preprocessing import StandardScaler

from hamdist.errors import StreamError
from hamdist.streams import Arrays, Iterable, Standardise, open_stream

F64 = torch.float64
rng = np.random.default_rng(2)
ROWS = rng.normal([0.0, 1e3, -5.0, 0.1], [1.0, 100.0, 2.0, 0.0], (103, 4))
"""Four features, the last of them constant."""


def standardised(rows, batch_size):
    stream = Standardise(Iterable(list(rows), batch_size=batch_size, dtype=F64))
    return torch.cat([batch.inputs for batch in stream]).numpy()


def close(found, expected):
    # the means are at most some ten spreads from 0, so that rounding costs some hundred units in the last place
    assert np.abs(found - expected).max() < 1e-12


def test_sample_by_sample_as_rivers_learn_one():
    scaler, expected = StandardScaler(), []
    for row in ROWS[:, :3]:
        x = dict(enumerate(row))
        scaler.learn_one(x)
        expected.append(list(scaler.transform_one(x).values()))
    close(standardised(ROWS[:, :3], 1), np.array(expected))


@pytest.mark.parametrize("batch_size", [2, 10, 103, 500])
def test_batch_by_batch_as_rivers_learn_many(batch_size):
    rows = rng.normal(
        [0.0, 2.0, -5.0], [1.0, 3.0, 10.0], (103, 3)
    )  # River subtracts mean² from the mean of x²
    scaler, expected = StandardScaler(), []
    for first in range(0, len(rows), batch_size):
        table = pa.table(dict(zip("abc", rows[first : first + batch_size].T, strict=True)))
        scaler.learn_many(table)
        expected.append(
            np.column_stack([column.to_numpy() for column in scaler.transform_many(table).columns])
        )
    close(standardised(rows, batch_size), np.concatenate(expected))


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_a_constant_feature_becomes_exactly_0(batch_size):
    constant = np.full((50, 1), 0.1)
    assert not standardised(constant, batch_size).any()
    assert not standardised(ROWS, batch_size)[:, 3].any()


@pytest.mark.parametrize("batch_size", [1, 7, 103])
def test_at_the_end_of_the_stream_the_moments_are_those_of_all_samples(batch_size):
    last = standardised(ROWS[:, :3], batch_size)[-1]
    close(last, ((ROWS - ROWS.mean(0)) / ROWS.std(0).clip(1e-300))[-1, :3])


def test_a_mean_far_from_0_costs_no_accuracy():
    far = 1e8 + rng.integers(-50, 50, (1000, 1)).astype(float)  # exact, so that only the moments can be wrong
    expected = (far - far.mean()) / far.std()
    # the mean, about 1e8, is rounded to 2⁻²⁷ and one spread is about 30
    assert abs(standardised(far, 10)[-1] - expected[-1]) < 1e-9


@pytest.fixture
def arrays(tmp_path):
    np.save(tmp_path / "x.npy", ROWS[:, :3])
    return Arrays(tmp_path / "x.npy", batch_size=8, shuffle=False, holdout=0.2, dtype=F64)


def test_the_hold_out_is_transformed_with_the_moments_so_far_and_leaves_them_alone(arrays):
    stream = Standardise(arrays)
    batches = iter(stream)
    seen, streamed = ROWS[:16, :3], len(ROWS) - 21
    next(batches), next(batches)
    for _ in range(2):
        held_out = torch.cat([batch.inputs for batch in stream.holdout()]).numpy()
        close(held_out, (ROWS[streamed:, :3] - seen.mean(0)) / seen.std(0))
    seen = ROWS[:24, :3]
    close(next(batches).inputs.numpy(), ((seen - seen.mean(0)) / seen.std(0))[16:])


def test_before_the_first_sample_a_hold_out_is_0_as_rivers_is(arrays):
    assert not torch.cat([batch.inputs for batch in Standardise(arrays).holdout()]).any()
    assert StandardScaler().transform_one({"x": 3.0}) == {"x": 0.0}


def test_every_iteration_starts_without_moments(arrays):
    stream = Standardise(arrays)
    one, other = (torch.cat([batch.inputs for batch in stream]) for _ in range(2))
    assert torch.equal(one, other)


def test_images_keep_their_shape_and_targets_are_left_alone():
    images = [(rng.normal(size=(2, 3)), n) for n in range(6)]
    stream = Standardise(Iterable(images, batch_size=6))
    (batch,) = stream
    pixels = np.stack([image for image, _ in images])
    assert batch.inputs.dtype == torch.float32
    # float32 inputs: 2⁻²⁴ of numbers below 4, and of the same again in the mean
    assert np.abs(batch.inputs.numpy() - (pixels - pixels.mean(0)) / pixels.std(0)).max() < 1e-5
    assert batch.targets.tolist() == list(range(6))


def test_without_a_hold_out_there_is_none():
    assert Standardise(Iterable([1.0])).holdout() is None


def test_whole_numbers_are_refused():
    message = "standardise needs floating inputs, and these are torch.int64; leave it out"
    with pytest.raises(StreamError, match=f"^{re.escape(message)}$"):
        list(Standardise(Iterable([torch.arange(3)])))


SECONDS = [1_700_000_000 + second for second in range(40)]


def rivers(values):
    scaler, expected = StandardScaler(), []
    for value in values:
        scaler.learn_one({"x": value})
        expected.append(scaler.transform_one({"x": value})["x"])
    return np.array(expected)


@pytest.fixture(params=["csv", "parquet", "json", "npy", "list", "torch", "river"])
def seconds(request, tmp_path):
    """Every road by which numbers come in, as settings of `open_stream`."""
    path, source = tmp_path / f"t.{request.param}", request.param
    if source == "csv":
        path.write_text("x,y\n" + "".join(f"{x},a\n" for x in SECONDS))
    elif source == "parquet":
        pq.write_table(pa.table({"x": SECONDS, "y": ["a"] * 40}), path)
    elif source == "npy":
        np.save(path, np.array(SECONDS, float)[:, None])
    text = io.StringIO("".join(f'{{"x": {x}, "y": 0}}\n' for x in SECONDS))
    return {
        "csv": {"source": "csv", "path": path, "target": "y"},
        "parquet": {"source": "parquet", "path": path, "target": "y"},
        "json": {"source": "stdin", "file": text},
        "npy": {"source": "arrays", "inputs": path, "shuffle": False, "batch_size": 1},
        "list": {"source": "iterable", "iterable": [(x, 0) for x in SECONDS]},
        "torch": {"source": "torch", "dataset": [(x, 0) for x in SECONDS], "shuffle": False, "batch_size": 1},
        "river": {"source": "river", "dataset": [({"x": x}, True) for x in SECONDS]},
    }[source]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_seconds_since_1970_keep_their_differences(seconds, dtype):
    """Consecutive seconds are 0, 1, 1.225, 1.342, …, by whatever road and in whatever dtype."""
    found = torch.cat([batch.inputs for batch in open_stream(**seconds, standardise=True, dtype=dtype)])
    assert found.dtype == dtype
    # River's own moments are rounded to 2⁻²² of the mean; the result to the dtype's last bit of numbers below 2
    tolerance = 1e-6 + torch.finfo(dtype).eps
    assert np.abs(found.squeeze().double().numpy() - rivers(SECONDS)).max() < tolerance
    assert found[:4].squeeze().tolist() == pytest.approx([0, 1, 1.5**0.5, 1.8**0.5], abs=tolerance)


def test_targets_that_are_numbers_get_the_dtype_too():
    rows = [(float(second), 0.5) for second in SECONDS]
    batch = next(iter(open_stream("iterable", iterable=rows, standardise=True, dtype=torch.float32)))
    assert (batch.inputs.dtype, batch.targets.dtype) == (torch.float32, torch.float32)
