"""River's datasets and generators, against River's own iteration."""

import re
import sys

import numpy as np
import pytest
import torch
from river import datasets
from river.datasets import synth

from hamdist.errors import MissingExtraError, StreamError
from hamdist.streams import River

# River leaves the file of a dataset open that was not read to its end
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

F64 = torch.float64


def collect(stream):
    inputs, targets, *_ = zip(*stream, strict=True)
    return torch.cat(inputs).numpy(), torch.cat(targets).numpy()


def by_river(dataset, samples):
    """Features in the order of the first sample's keys, and targets, as River presents them."""
    pairs = list(dataset.take(samples))
    keys = list(pairs[0][0])
    return np.array([[float(x[key]) for key in keys] for x, _ in pairs]), [y for _, y in pairs]


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("Phishing", datasets.Phishing()),  # booleans
        ("Shuttle", datasets.Shuttle()),  # whole numbers
        ("synth.Agrawal", synth.Agrawal(seed=3)),
        ("synth.SEA", synth.SEA(seed=3)),
        ("synth.LED", synth.LED(seed=3)),
        ("synth.Mixed", synth.Mixed(seed=3)),  # booleans among the features
        ("synth.RandomRBF", synth.RandomRBF(seed_model=3, seed_sample=3)),
    ],
)
def test_classification(name, dataset):
    inputs, targets = collect(River(name, batch_size=7, samples=500, seed=3, dtype=F64))
    expected, labels = by_river(dataset, 500)
    assert np.array_equal(inputs, expected)
    assert targets.tolist() == [int(label) for label in labels]
    assert targets.dtype == np.int64


def test_strings_are_classes_in_the_order_of_first_appearance():
    stream = River("ImageSegments", samples=300)
    _, labels = by_river(datasets.ImageSegments(), 300)
    order = list(dict.fromkeys(labels))
    assert len(order) == stream.classes == 7
    assert collect(stream)[1].tolist() == [order.index(label) for label in labels]
    assert collect(stream)[1].tolist() == [order.index(label) for label in labels]  # a second pass


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("TrumpApproval", datasets.TrumpApproval()),
        ("ChickWeights", datasets.ChickWeights()),  # whole numbers, but a regression's
        ("synth.Friedman", synth.Friedman(seed=5)),
    ],
)
def test_regression(name, dataset):
    inputs, targets = collect(River(name, samples=200, seed=5, dtype=F64))
    expected, values = by_river(dataset, 200)
    assert np.array_equal(inputs, expected)
    assert np.array_equal(targets, np.array(values, dtype=np.float64)[:, None])


def test_several_targets_are_a_vector():
    _, targets = collect(River("Yeast", samples=50))
    _, values = by_river(datasets.Yeast(), 50)
    assert np.array_equal(targets, np.array([[float(part) for part in value.values()] for value in values]))


def test_the_whole_of_a_dataset():
    stream = River("Phishing", batch_size=100)
    sizes = [len(batch.inputs) for batch in stream]
    assert sizes == [100] * 12 + [50]
    assert (stream.samples, stream.classes) == (1250, 2)


def test_chosen_features_in_the_order_chosen():
    inputs, _ = collect(River("ChickWeights", features=["diet", "time"], samples=578))
    assert inputs.tolist() == [[x["diet"], x["time"]] for x, _ in datasets.ChickWeights()]


@pytest.mark.parametrize("features", [[2, 0], ["2", "0"]])
def test_keys_that_are_numbers_may_be_written_as_text(features):
    inputs, _ = collect(River("synth.SEA", features=features, samples=20, seed=3, dtype=F64))
    assert inputs.tolist() == [[x[2], x[0]] for x, _ in synth.SEA(seed=3).take(20)]


def test_a_dataset_itself_with_seeds_of_its_own():
    given = collect(River(synth.Agrawal(seed=9), samples=100))[0]
    assert np.array_equal(given, collect(River("synth.Agrawal", args={"seed": 9}, seed=1, samples=100))[0])
    assert not np.array_equal(given, collect(River("synth.Agrawal", seed=1, samples=100))[0])


def test_arguments_reach_the_generator():
    other = collect(River("synth.Agrawal", args={"classification_function": 4}, samples=200))
    expected = by_river(synth.Agrawal(classification_function=4, seed=0), 200)
    assert other[1].tolist() == expected[1]
    assert other[1].tolist() != collect(River("synth.Agrawal", samples=200))[1].tolist()


def test_a_generator_is_endless_unless_cut():
    assert River("synth.SEA").samples is None
    assert len(collect(River("synth.SEA", samples=10))[0]) == 10


def refused(message, *args, **settings):
    with pytest.raises(StreamError, match=f"^{re.escape(message)}"):
        list(River(*args, **settings))


REMEDY = (
    "Choose other features with `features: [...]`, or transform them in Python and use the source iterable"
)


def test_strings_among_the_features_are_refused_by_name():
    refused(
        "River's Mv: sample 0: the feature 3 is the str 'green'; expected a number or a boolean. " + REMEDY,
        *("synth.Mv",),
        seed=0,
        samples=5,
    )
    refused("River's AirlinePassengers: sample 0: the feature 'month' is the datetime ", "AirlinePassengers")


def test_text_is_no_mapping_of_features():
    refused(
        "River's list: sample 0 is a str; expected features by name, all of them numbers. " + REMEDY,
        [("some text", 1)],
    )


def test_features_that_come_and_go():
    refused(
        "River's list: sample 1 has no feature 'b'; it has a, c",
        [({"a": 1, "b": 2}, 0), ({"a": 1, "c": 2}, 0)],
    )
    refused(
        "River's list: sample 1 has a feature the first one did not have: b. " + REMEDY,
        [({"a": 1}, 0), ({"a": 1, "b": 2}, 0)],
    )
    refused(
        "River's ChickWeights: sample 0 has no feature 'dite'; it has time, chick, diet; did you mean 'diet'?",
        "ChickWeights",
        features=["dite"],
    )


def test_a_target_that_is_nothing():
    refused(
        "River's list: sample 0: the target is missing; with missing_target: predict such samples are",
        [({"a": 1}, None)],
    )


def test_unknown_names_and_arguments():
    with pytest.raises(
        StreamError, match=r"^dataset: River has no dataset 'Phising'; it has AirlinePassengers, "
    ):
        River("Phising")
    with pytest.raises(StreamError, match=r"synth.Waveform; did you mean 'Phishing'\?$"):
        River("Phising")
    with pytest.raises(
        StreamError, match=r"^args: synth.SEA takes \(.*\).*: got an unexpected .* 'variants'$"
    ):
        River("synth.SEA", args={"variants": 1})
    with pytest.raises(StreamError, match=r"^args: synth.SEA does not take {'variant': 9}: "):
        River("synth.SEA", args={"variant": 9})


def test_more_samples_than_there_are():
    stream = River("Phishing", samples=1251)
    assert (stream.samples, stream.available) == (1250, 1250)


def test_a_download_that_fails():
    class Remote:
        is_downloaded, n_samples = False, 10

        def __iter__(self):
            raise OSError("no route to host")

    assert River(Remote()).samples is None
    refused("River's Remote cannot be read or downloaded: no route to host", Remote())


def test_without_river_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "river", None)
    message = "the river stream needs an optional package: pip install 'hamdist[river]'"
    with pytest.raises(MissingExtraError, match=f"^{re.escape(message)}$"):
        River("Phishing")
