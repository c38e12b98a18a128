"""River's own streams: each sample is predicted, then learnt from; hamdist beside four of River's models.

One pass, batch 1, inputs standardised online. The networks are the example configs, fully local, and the same trained
non-locally. Needs the extra `river`.
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable

from river import compose, datasets, forest, linear_model, multiclass, neighbors, preprocessing, tree
from table import machine, show, verdict

import hamdist

STREAMS = {  # example config: (River's dataset, samples, least accuracy)
    "phishing": (datasets.Phishing, 1250, 0.885),
    "image-segments": (datasets.ImageSegments, 2310, 0.865),
    "shuttle": (datasets.Shuttle, 10000, 0.993),
}
SEEDS = (0, 1, 2)
CLOSE = 0.01

PEERS: dict[str, Callable[[], object]] = {
    "River logistic regression": lambda: multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
    "River Hoeffding tree": tree.HoeffdingTreeClassifier,
    "River adaptive random forest": lambda: forest.ARFClassifier(seed=0),
    "River k-nearest neighbours": neighbors.KNNClassifier,
}


def river_accuracy(make: Callable[[], object], dataset: object, samples: int) -> float:
    """The share predicted right before learning; the first guess of an untaught model counts as wrong."""
    model = compose.Pipeline(preprocessing.StandardScaler(), make())
    right = 0
    for x, y in itertools.islice(dataset, samples):
        right += model.predict_one(x) == y
        model.learn_one(x, y)
    return right / samples


def ours(name: str, mode: str, samples: int, seeds: tuple[int, ...]) -> float:
    accuracies = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as directory:
            overrides = [f"locality.mode={mode}", f"stream.samples={samples}", f"seed={seed}"]
            summary = hamdist.run(name, overrides, out=f"{directory}/run")
        assert summary["samples_seen_once"]
        accuracies.append(summary["prequential"]["accuracy"])
    return statistics.mean(accuracies)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    sizes = {name: min(samples, 500) if quick else samples for name, (_, samples, _) in STREAMS.items()}
    seeds = SEEDS[:1] if quick else SEEDS
    rows: list[tuple] = [
        (f"hamdist, {label}", *(ours(name, mode, sizes[name], seeds) for name in STREAMS))
        for label, mode in (("fully local", "local"), ("non-local", "nonlocal"))
    ]
    rows += [
        (peer, *(river_accuracy(make, dataset(), sizes[name]) for name, (dataset, _, _) in STREAMS.items()))
        for peer, make in PEERS.items()
    ]
    show("Prequential accuracy", ["model", *STREAMS], rows)
    for column, (name, (_, _, limit)) in enumerate(STREAMS.items(), start=1):
        print(verdict(f"{name}, fully local", rows[0][column], limit, at_most=False))
        print(verdict(f"{name}, distance to non-local", abs(rows[0][column] - rows[1][column]), CLOSE))
    print(machine())


if __name__ == "__main__":
    main()
