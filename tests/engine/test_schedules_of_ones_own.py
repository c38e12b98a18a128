"""Schedules that are functions of the user's: whatever does not give β, or not in a trace, is refused by name."""

import numpy as np
import pytest
import torch
from support.comparing import largest_difference
from support.inline import run_through, runtime_of, weights
from support.networks import residual_net
from support.samples import samples

from hamdist.engine.spec import PLAIN, STACKED
from hamdist.errors import NetworkError
from hamdist.network.learning import Learning
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.rates import Rate

BATCHES = samples(20, (8,))


def run(schedule, execution=PLAIN):
    rule = Learning(Dynamics(rate=Rate(schedule)), rate="constant")
    runtime = runtime_of(residual_net(3), BATCHES, rule=rule, execution=execution)
    run_through(runtime, BATCHES)
    return weights(runtime)


def branching(n):
    return 0.1 if n < 5 else 0.01


VALUES = {
    "an if": branching,
    "an index": lambda n: [0.1, 0.2, *[0.01] * 100][int(n)],
    "numpy": lambda n: float(np.exp(-n.numpy())),
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_schedule_that_asks_for_values_runs_node_by_node_and_is_refused_in_a_trace(kind):
    assert run(VALUES[kind])
    with pytest.raises(NetworkError, match=r"the schedule of β cannot be traced: .*torch\.where") as caught:
        run(VALUES[kind], STACKED)
    assert caught.value.problems[0].key == "learning.beta"


@pytest.mark.parametrize(
    "schedule",
    [
        lambda n: torch.where(n < 5, 0.1, 0.01),
        lambda n: 0.1 / (1 + n.item()),
        lambda n: 0.1,
        lambda n: 1e-3 * 1.01**n,  # beyond all bounds some day
    ],
)
def test_what_can_be_traced_is_the_same_in_a_trace(schedule):
    assert largest_difference(run(schedule, STACKED), run(schedule)) < 1e-12


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda n: None, "gives None for 0 updates, which is no finite number"),
        (lambda n: torch.ones(3), "no finite number"),
        (lambda n: 0.1 / n, "gives inf for 0 updates"),
        (lambda n: {}[0], "fails for 0 updates"),
    ],
)
def test_what_is_no_rate_is_refused(value, words):
    with pytest.raises(NetworkError, match=f"layer '0': the schedule of β .*{words}"):
        run(value)


def test_a_schedule_that_counts_for_itself_is_refused():
    seen = []

    def counting(n):
        seen.append(n)
        return 0.1 / len(seen)

    with pytest.raises(
        NetworkError, match=r"gives 0\.1 and then 0\.05 for 0 updates: it must depend on these alone"
    ):
        run(counting)
