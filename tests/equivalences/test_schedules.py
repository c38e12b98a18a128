"""β as a function of time is a scheduler of torch.optim: closed forms, and whole runs.

Tolerance 1e-12 in float64; the schedulers of torch multiply step by step, ours are closed forms.
"""

import math

import pytest
import torch
from support.comparing import largest_difference
from support.delayed_gradients import delayed_gradients
from support.inline import learning, run_through, runtime_of, weights
from support.networks import mlp, residual_net
from support.samples import samples
from torch import nn
from torch.optim import lr_scheduler

from hamdist.engine.build import program
from hamdist.engine.inline import InlineRuntime
from hamdist.network.learning import Learning
from hamdist.network.locality import Locality
from hamdist.network.network import Network
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.rates import (
    SCHEDULES,
    Adam,
    Rate,
    cosine,
    exponential,
    inverse_sqrt,
    linear,
    stepped,
    warmed_up,
)

CASES = {
    "cosine": (
        cosine(0.2, 0.02, 25),
        lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=25, eta_min=0.02),
        25,
    ),
    "linear": (linear(0.2, 0.02, 25), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, total_iters=25), 60),
    "exponential": (exponential(0.2, 0.9, 1), lambda o: lr_scheduler.ExponentialLR(o, 0.9), 60),
    "exponential over 10": (exponential(0.2, 0.5, 10), lambda o: lr_scheduler.ExponentialLR(o, 0.5**0.1), 60),
    "step": (stepped(0.2, 0.5, 7), lambda o: lr_scheduler.StepLR(o, 7, 0.5), 60),
    "inverse-sqrt": (
        inverse_sqrt(0.2, 10),
        lambda o: lr_scheduler.LambdaLR(o, lambda n: 1 / math.sqrt(1 + n / 10)),
        60,
    ),
    "warmed up": (
        warmed_up(exponential(0.2, 0.9, 1), 8),
        lambda o: lr_scheduler.LambdaLR(o, lambda n: 0.9**n * min(1, (n + 1) / 8)),
        60,
    ),
}


def count(n: int) -> torch.Tensor:
    return torch.tensor(float(n), dtype=torch.float64)


@pytest.mark.parametrize("case", CASES)
def test_every_schedule_is_torchs(case):
    ours, scheduler, steps = CASES[case]
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.2)
    theirs = scheduler(optimiser)
    for n in range(steps):
        assert ours(count(n)).item() == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-12)
        optimiser.step()
        theirs.step()


def test_after_its_time_a_schedule_stays_at_its_end():
    assert (
        cosine(0.2, 0.02, 25)(count(25)).item()
        == cosine(0.2, 0.02, 25)(count(1000)).item()
        == pytest.approx(0.02)
    )
    assert (
        linear(0.2, 0.02, 25)(count(25)).item()
        == linear(0.2, 0.02, 25)(count(1000)).item()
        == pytest.approx(0.02)
    )


def test_every_schedule_of_a_config_is_compared():
    assert set(SCHEDULES) <= set(CASES)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("adaptive", [False, True])
def test_a_nonlocal_run_is_an_optimiser_with_that_scheduler(case, adaptive):
    schedule, scheduler, steps = CASES[case]
    batches = samples(steps, (8,))
    plain = nn.Sequential(*mlp())
    scale = 0.05 if adaptive else 1.0
    if adaptive:
        rule = learning(lambda n: 0.05 * schedule(n), adaptive=Adam(eps=1e-6), weight_decay=0.01)
        optimiser = torch.optim.Adam(plain.parameters(), lr=0.2, eps=1e-6, weight_decay=0.01)
    else:
        rule = learning(schedule, weight_dissipation=0.4, weight_decay=0.01)
        optimiser = torch.optim.SGD(plain.parameters(), lr=0.2, momentum=0.6, weight_decay=0.01)
    moving = scheduler(optimiser)
    runtime = runtime_of(mlp(), batches, mode="nonlocal", rule=rule)
    before = {key: value.clone() for key, value in weights(runtime).items()}
    for x, y in batches:
        list(runtime.present(x, y))
        optimiser.zero_grad()
        nn.functional.cross_entropy(plain(x), y).backward()
        rate = optimiser.param_groups[0]["lr"]
        optimiser.param_groups[0]["lr"] = scale * rate
        optimiser.step()
        optimiser.param_groups[0]["lr"] = rate
        moving.step()
    theirs = {key: p.detach() for key, p in plain.named_parameters()}
    assert largest_difference(weights(runtime), theirs) < 1e-12
    assert largest_difference(weights(runtime), before) > 1e-2


def test_the_time_of_a_schedule_is_a_layers_own_updates():
    """Through delays a layer's n-th update has β(n), whatever the tick, and not while it waits."""
    batches = samples(30, (8,))
    depth, schedule = 4, exponential(0.2, 0.8, 1)
    runtime = runtime_of(residual_net(depth), batches, rule=learning(schedule))
    run_through(runtime, batches)
    oracle = delayed_gradients(residual_net(depth), batches, [Ticking(schedule) for _ in range(depth)], 0.0)
    assert largest_difference(weights(runtime), oracle) < 1e-10


class Ticking:
    """A rate for the plain loop: each layer has two parameters, so every second use is a new update."""

    def __init__(self, schedule) -> None:
        self.schedule, self.uses = schedule, 0

    def __mul__(self, velocity):
        self.uses += 1
        return self.schedule(count((self.uses - 1) // 2)) * velocity


@pytest.mark.parametrize(
    "rate", [Rate(cosine(0.1, 0.0, 10)), Rate(0.01, adaptive=Adam())], ids=["schedule", "adam"]
)
def test_float32_weights_stay_float32_scalars_too(rate):
    """The count of updates is float64; a learnt scalar, which has no dimension either, must not take that on."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(1.0))

        def forward(self, x):
            return x * self.gain

    batches = [(x.float(), y) for x, y in samples(4, (8,))]
    network = Network.of([Scaled(), nn.Linear(8, 3)], nn.functional.cross_entropy)
    runtime = InlineRuntime(program(network, Locality(), Learning(Dynamics(rate=rate)), batches[0]))
    run_through(runtime, batches)
    for cell in runtime.cells.values():
        tensors = [
            *cell.carry.parameters.values(),
            *cell.carry.weight_costate.values(),
            *cell.carry.moments.values(),
        ]
        assert {tensor.dtype for tensor in tensors} == {torch.float32}
