"""Arrays in files, against the arrays that were saved."""

import contextlib
import io
import random
import re
import warnings
import zipfile

import numpy as np
import pytest
import torch
from numpy.lib import format as npy_format

from hamdist.errors import StreamError
from hamdist.streams import Arrays
from hamdist.streams.arrays import open_array

F64 = torch.float64
rng = np.random.default_rng(0)
X = rng.normal(size=(11, 2, 3))
Y = np.arange(11, dtype=np.int32)


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    return tmp_path / "x.npy", tmp_path / "y.npy"


@pytest.fixture
def npz(tmp_path):
    np.savez(tmp_path / "both.npz", x=X, y=Y, labels=Y[::-1])
    return tmp_path / "both.npz"


def collect(batches):
    inputs, targets, *_ = zip(*batches, strict=True)
    return torch.cat(inputs).numpy(), torch.cat(targets).numpy()


def test_rows_in_turn(npy):
    stream = Arrays(*npy, batch_size=4, shuffle=False, dtype=F64)
    assert [len(batch.inputs) for batch in stream] == [4, 4, 3]
    inputs, targets = collect(stream)
    assert np.array_equal(inputs, X)
    assert np.array_equal(targets, Y)
    assert (inputs.dtype, targets.dtype) == (np.float64, np.int64)
    assert stream.samples == 11


def test_shuffled_epochs_keep_inputs_and_targets_together(npy):
    inputs, targets = collect(Arrays(*npy, batch_size=4, samples=33, seed=5, dtype=F64))
    assert np.array_equal(inputs, X[targets])
    for epoch in targets.reshape(3, 11):
        assert sorted(epoch) == list(range(11))
    assert len(np.unique(targets.reshape(3, 11), axis=0)) == 3
    again, _ = collect(Arrays(*npy, batch_size=4, samples=33, seed=5, dtype=F64))
    assert np.array_equal(again, inputs)


def test_the_hold_out_is_the_tail(npy):
    stream = Arrays(*npy, batch_size=2, samples=40, holdout=0.25, dtype=F64)
    inputs, targets = collect(stream.holdout())
    assert np.array_equal(inputs, X[8:])
    assert np.array_equal(targets, Y[8:])
    assert set(collect(stream)[1]) == set(range(8))
    assert Arrays(*npy).holdout() is None


def test_an_npy_file_is_mapped_and_not_loaded(npy):
    assert isinstance(open_array("inputs", npy[0], "x").base, np.memmap)
    stream = Arrays(*npy, batch_size=2, shuffle=False, dtype=F64)
    file = np.load(npy[0], mmap_mode="r+")
    batches = iter(stream)
    next(batches)
    file[2] = 7.0  # written after the stream was opened, and seen by it
    file.flush()
    assert next(batches).inputs[0].eq(7).all()


def test_a_batch_is_a_copy_of_the_file(npy):
    batch = next(iter(Arrays(*npy, shuffle=False, dtype=F64)))
    batch.inputs.zero_()
    assert np.array_equal(np.load(npy[0]), X)


def test_one_npz_holds_both(npz):
    inputs, targets = collect(Arrays(npz, shuffle=False, dtype=F64))
    assert np.array_equal(inputs, X)
    assert np.array_equal(targets, Y)
    _, labels = collect(Arrays(npz, targets_key="labels", shuffle=False))
    assert np.array_equal(labels, Y[::-1])


def test_inputs_and_targets_in_two_kinds_of_file(npy, npz):
    inputs, targets = collect(Arrays(npy[0], npz, targets_key="labels", shuffle=False, dtype=F64))
    assert np.array_equal(inputs, X)
    assert np.array_equal(targets, Y[::-1])


def test_without_targets(npy, npz):
    assert next(iter(Arrays(npy[0]))).targets is None
    assert next(iter(Arrays(npz, targets_key=None))).targets is None


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f2", np.longdouble])
def test_floating_numbers_of_any_format_are_cast(tmp_path, dtype):
    np.save(tmp_path / "x.npy", X.astype(dtype))
    inputs = next(iter(Arrays(tmp_path / "x.npy", shuffle=False, dtype=F64))).inputs
    assert np.array_equal(inputs.numpy(), X.astype(dtype).astype(np.float64))


def test_integer_inputs_stay_and_numbers_become_vectors_of_one(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6, dtype=">i2").reshape(3, 2))
    np.save(tmp_path / "y.npy", np.arange(3.0))
    batch = next(iter(Arrays(tmp_path / "x.npy", tmp_path / "y.npy", shuffle=False)))
    assert batch.inputs.dtype == torch.int16
    assert batch.inputs.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert batch.targets.tolist() == [[0], [1], [2]]


def refused(message, *args, **settings):
    with pytest.raises(StreamError, match=f"^{re.escape(message)}"):
        Arrays(*args, **settings)


def test_a_missing_file(tmp_path, npy):
    refused(f"inputs: there is no file {tmp_path / 'z.npy'} (looked for from ", tmp_path / "z.npy")
    refused(f"targets: there is no file {tmp_path / 'z.npy'}", npy[0], tmp_path / "z.npy")
    refused(f"inputs: {tmp_path} is not a file", tmp_path)


def test_a_file_that_is_no_array(tmp_path):
    (tmp_path / "x.txt").write_text("1 2 3")
    refused(f"inputs: {tmp_path / 'x.txt'} is neither an .npy nor an .npz file", tmp_path / "x.txt")
    for name in ("x.npy", "x.npz"):
        (tmp_path / name).write_text("1 2 3")
        refused(f"inputs: {tmp_path / name} cannot be read: ", tmp_path / name)


def test_an_array_of_text(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array(["a", "b"]))
    refused(
        f"inputs: {path} has shape (2,) and dtype <U1; expected rows of numbers, [N, ...]",
        path,
    )


def test_a_missing_key(npz):
    refused(
        f"inputs_key: {npz} has no array 'xs'; it has x, y, labels; did you mean 'x'?", npz, inputs_key="xs"
    )
    refused(
        f"targets_key: {npz} has no array 'label'; it has x, y, labels; did you mean 'labels'? "
        "(targets_key: null for a stream without targets)",
        npz,
        targets_key="label",
    )


def test_lengths_that_differ(tmp_path, npy):
    path = tmp_path / "short.npy"
    np.save(path, Y[:5])
    refused(f"targets: {path} has 5 rows, where the inputs have 11", npy[0], path)


def test_a_hold_out_leaves_a_row_to_the_stream(npy):
    assert Arrays(*npy, holdout=0.99).samples == 1


def member(shape, dtype="<f8", content=b""):
    """An .npy file's bytes: a header that declares as it likes, and what follows it."""
    buffer = io.BytesIO()
    npy_format.write_array_header_1_0(buffer, {"shape": shape, "fortran_order": False, "descr": dtype})
    return buffer.getvalue() + content


def npz_of(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("shape", [(2**42,), (2**21, 2**21), (2**62, 2**62), (5,)])
def test_a_header_that_declares_more_than_there_is(tmp_path, shape):
    path = npz_of(tmp_path / "x.npz", x=member(shape, content=bytes(32)))
    refused(
        f"inputs: {path} cannot be read: its header declares {np.prod(shape, dtype=object) * 8:,} bytes", path
    )
    (tmp_path / "x.npy").write_bytes(member(shape, content=bytes(32)))
    refused(f"inputs: {tmp_path / 'x.npy'} cannot be read: ", tmp_path / "x.npy")


def test_an_array_that_does_not_fit_into_the_memory(tmp_path, monkeypatch):
    """A mebibyte of zeros in a kilobyte of file."""
    path = npz_of(tmp_path / "x.npz", x=member((1024, 128), content=bytes(2**20)))
    assert path.stat().st_size < 4096
    assert Arrays(path, targets_key=None).samples == 1024
    monkeypatch.setattr("hamdist.streams.npz.memory_bytes", lambda: 10**6)
    refused(
        f"inputs: {path} cannot be read: it takes 1,048,576 bytes, and the memory has 1,000,000: save it as an .npy",
        path,
    )


def test_pickled_objects_are_not_read(tmp_path):
    for name, save in (("x.npy", np.save), ("x.npz", lambda path, x: np.savez(path, x=x))):
        save(tmp_path / name, np.array([{"a": 1}, None], dtype=object))
        refused(f"inputs: {tmp_path / name} cannot be read: ", tmp_path / name)


def test_a_file_with_bytes_changed_or_cut_is_read_or_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x=X, y=Y)
    np.save(tmp_path / "x.npy", X)
    draw = random.Random(0)
    for name in ("x.npz", "x.npy"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(150):
            data = bytearray(whole[: draw.choice([len(whole), draw.randrange(len(whole))])])
            for _ in range(draw.randrange(4)):
                if data:
                    data[draw.randrange(min(len(data), 200))] = draw.randrange(256)
            (tmp_path / f"z{name}").write_bytes(bytes(data))
            with contextlib.suppress(StreamError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                Arrays(tmp_path / f"z{name}")
