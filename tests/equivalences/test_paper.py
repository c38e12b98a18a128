"""The paper's own comparison with torch.optim.SGD, a few steps of it: benchmarks/paper.py runs all.

Tolerance 1e-12 in float64: the same operations, rounded in another order.
"""

import importlib
from pathlib import Path
from typing import Any

import pytest

STEPS = 4
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NETWORKS = ("linear", "MLP-30", "ResNet, 4 blocks", "ViT, 1 layer", "RNN-30", "LSTM")
SLOW = ("ResNet, 4 blocks", "ViT, 1 layer")


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("paper")


def test_these_are_all_cells(paper: Any):
    assert tuple(paper.CASES) == NETWORKS
    assert paper.KINDS == ("output", "state")
    assert [tuple(each) for each in paper.OPTIMIZERS] == [
        (0.01, 0.0, 0.0),
        (0.001, 0.0, 0.0),
        (0.01, 0.05, 0.6),
        (0.01, 0.1, 0.5),
    ]
    digits = paper.CASES["ViT, 1 layer"].samples()
    assert sorted(target.item() for _, target in digits) == [digit for digit in range(10) for _ in range(10)]


@pytest.mark.parametrize("kind", ["output", "state"])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in NETWORKS]
)
def test_weights_are_those_of_sgd_with_momentum_and_dampening(name: str, kind: str, paper: Any):
    case, optimizer = paper.CASES[name], paper.OPTIMIZERS[-1]
    trace = paper.compare(case, kind, optimizer, STEPS)
    assert max(trace.apart) < paper.LIMIT
    assert trace.ours == pytest.approx(trace.theirs, abs=1e-12)
    undampened = paper.compare(case, kind, paper.Optimizer(0.01), STEPS)
    assert abs(undampened.ours[-1] - trace.ours[-1]) > 1e-6, (
        "the comparison would hold whatever the optimizer"
    )
