"""Samples without a target from end to end: tables, lines of JSON and a Learner, against a plain loop."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hamdist import Learner, run
from hamdist.errors import StreamError
from hamdist.physics.targets import IGNORED
from hamdist.streams.missing import NO_CLASS

NONE = -100
DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(40, 4)).astype(np.float32)
LABELS = [int(x.argmax()) if number % 3 == 0 else None for number, x in enumerate(X)]
MISSING = sum(label is None for label in LABELS)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def config(**stream):
    return {
        "name": "sparse",
        "stream": stream,
        "network": {
            "dtype": "float64",
            "loss": "cross_entropy",
            "layers": [
                {"name": "head", "modules": [{"type": "Linear", "in_features": 4, "out_features": 4}]}
            ],
        },
        "locality": {"mode": "nonlocal"},
        "metrics_every": 10,
    }


def as_table():
    lines = [
        ",".join([*map(str, x), "" if label is None else str(label)])
        for x, label in zip(X, LABELS, strict=True)
    ]
    Path("t.csv").write_text("a,b,c,d,y\n" + "\n".join(lines))
    return {"source": "csv", "path": "t.csv", "target": "y", "classes": [0, 1, 2, 3]}


def as_arrays():
    np.savez("t.npz", x=X, y=np.array([NONE if label is None else label for label in LABELS]))
    return {"source": "arrays", "inputs": "t.npz", "batch_size": 1}


def test_a_table_in_which_most_labels_are_missing():
    summary = run(config(**as_table(), missing_target="predict"), out="out")
    assert summary["status"] == "finished"
    assert summary["samples"] == 40
    assert summary["samples_seen_once"]
    assert summary["prequential"]["unlabelled"] == MISSING
    assert summary["layers"]["head"]["drives"] == 40 - MISSING
    lines = [
        json.loads(line) for line in Path(summary["directory"], "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["predicted"] for line in lines] == [10, 20, 30, 40]
    assert sum(line["unlabelled"] for line in lines) == MISSING
    again = run(config(**as_arrays()), out="again")
    assert again["prequential"] == pytest.approx(summary["prequential"], abs=1e-6)  # text of float32
    with pytest.raises(StreamError, match=r"^t.csv:3:y: the target is missing; with missing_target"):
        run(config(**as_table()), out="refused")


def test_lines_of_json_in_which_a_target_is_null(monkeypatch):
    lines = [json.dumps({"x": x.tolist(), "y": label}) for x, label in zip(X, LABELS, strict=True)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    summary = run(config(source="stdin", missing_target="predict"), out="out")
    assert summary["prequential"]["unlabelled"] == MISSING
    assert summary["status"] == "finished"


def layers():
    torch.manual_seed(0)
    return [nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)]


BATCHES = [
    (torch.from_numpy(DRAW.normal(size=(4, 4))), torch.from_numpy(DRAW.integers(0, 3, 4))) for _ in range(12)
]


def ways(y, number):
    """The same targets, as somebody might write them."""
    missing = torch.arange(4) % 3 == number % 3
    if number % 5 == 4:
        return None, torch.zeros(4, dtype=torch.bool)
    if number % 2:
        return [None if gone else int(label) for label, gone in zip(y, missing, strict=True)], ~missing
    return torch.where(missing, NONE, y), ~missing


def test_a_learner_as_a_plain_loop():
    learner = Learner(layers(), "cross_entropy", locality="nonlocal", beta=0.1, dtype=torch.float64)
    model = nn.Sequential(*layers()).double()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    losses, rows = 0.0, 0
    for number, (x, y) in enumerate(BATCHES):
        target, kept = ways(y, number)
        prediction = learner.step(x, target)
        assert prediction.unlabelled == 4 - int(kept.sum())
        if not kept.any():
            assert prediction.loss.isnan()
            continue
        loss = F.cross_entropy(model(x)[kept], y[kept])
        losses, rows = losses + loss.item() * int(kept.sum()), rows + int(kept.sum())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for name, value in model.state_dict().items():
        assert (learner.state_dict()[name] - value).abs().max() < 1e-12  # float64
    assert learner.metrics["loss"] == pytest.approx(losses / rows, abs=1e-12)
    assert learner.metrics["unlabelled"] == 48 - rows
    learner.drain()
    assert learner.samples_seen_once


def test_a_learner_of_numbers():
    learner = Learner(layers(), "mse", locality="nonlocal", dtype=torch.float64)
    y = torch.zeros(4, 3)
    learner.step(BATCHES[0][0], y)
    y[1] = math.nan
    assert learner.step(BATCHES[1][0], y).unlabelled == 1
    assert learner.step(BATCHES[1][0], None).unlabelled == 4
    assert learner.step(BATCHES[1][0], [[0.0] * 3, None, [1.0] * 3, [math.nan] * 3]).unlabelled == 2
    y[2, 0] = math.nan
    with pytest.raises(
        StreamError, match=r"^the batch at sample 16: target holds values that are not finite$"
    ):
        learner.step(BATCHES[2][0], y)


def test_the_first_batch_tells_what_targets_look_like():
    learner = Learner(layers(), "cross_entropy", dtype=torch.float64)
    with pytest.raises(
        StreamError, match=r"^the batch at sample 0: target is missing: .* begin with a batch"
    ):
        learner.step(BATCHES[0][0], None)
    learner.step(BATCHES[0][0], torch.full((4,), NONE))
    assert learner.samples == 4


def test_hold_out_samples_without_a_target():
    learner = Learner(layers(), "cross_entropy", locality="nonlocal", dtype=torch.float64)
    (x, y), *_ = BATCHES
    learner.step(x, y)
    whole = learner.evaluate([(x[:2], y[:2])])
    some = learner.evaluate([(x, torch.cat([y[:2], torch.full((2,), NONE)]))])
    assert some == pytest.approx(whole | {"unlabelled": 2}, abs=1e-12)
    assert learner.evaluate([(x, None)]) == {"unlabelled": 4}


def test_streams_and_losses_mean_the_same_class_by_none():
    """Neither may know of the other; torch's losses ignore it."""
    assert NO_CLASS == IGNORED == nn.CrossEntropyLoss().ignore_index
