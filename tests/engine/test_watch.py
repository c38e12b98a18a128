"""A word before a divergence: what grows as it does then, and nothing else, is told of, once a layer."""

import logging
from typing import Any

import pytest
import torch
from support.inline import learning, runtime_of
from support.networks import residual_net
from support.samples import Batches
from torch import nn

from hamdist.engine.inline import InlineRuntime
from hamdist.engine.spec import PLAIN, Execution
from hamdist.engine.watch import FAR, SPAN, TICKS, Growth, Norms, Watch, growth_of
from hamdist.errors import DivergenceError

pytestmark = pytest.mark.usefixtures("one_fitter")


def looks(*pairs: tuple[float, float]) -> list[Norms]:
    return [Norms(tick, *pair) for tick, pair in enumerate(pairs)]


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ([], (1e9, 1e9), None),
        ([(2.0, 0.0)], (19.9, 0.0), None),
        ([(2.0, 0.0), (7.0, 0.0)], (20.0, 0.0), Growth("weights", 0, 2, 2.0, 20.0)),
        ([(0.001, 0.0)], (9.9, 0.0), None),
        ([(0.001, 0.0)], (10.0, 0.0), Growth("weights", 0, 1, 0.001, 10.0)),
        ([(900.0, 0.0)], (1001.0, 0.0), Growth("weights", 0, 1, 900.0, 1001.0)),
        ([(1001.0, 0.0)], (1100.0, 0.0), None),
        ([(2.0, 0.0)], (float("inf"), 0.0), None),
        ([(2.0, 0.0)], (float("nan"), 0.0), None),
        ([(1.0, 0.1)] * 4, (1.0, 1e6), None),
        ([(1.0, 0.0)] * 5, (1.0, 1e6), None),
        ([(1.0, 0.1)] * 5, (1.0, 99.0), None),
        ([(1.0, 0.1)] * 5, (1.0, 100.0), Growth("costates", 0, 5, 0.1, 100.0)),
        ([(1.0, 30.0), *[(1.0, 1.0)] * 4], (1.0, 2999.0), None),
        ([(1.0, 30.0), *[(1.0, 1.0)] * 4], (1.0, 3000.0), Growth("costates", 0, 5, 30.0, 3000.0)),
    ],
)
def test_what_counts_as_growth(before: Any, now: tuple[float, float], told: Growth | None) -> None:
    assert FAR == 1000
    assert growth_of(looks(*before), Norms(len(before), *now)) == told


def test_what_is_long_ago_is_not_compared() -> None:
    assert growth_of([Norms(0, 2.0, 0.0)], Norms(SPAN + 1, 20.0, 0.0)) is None
    assert growth_of([Norms(0, 2.0, 0.0)], Norms(SPAN, 20.0, 0.0)) is not None


def regression(count: int = 400) -> Batches:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(4, 8, generator=generator).double(), torch.ones(4, 3).double()) for _ in range(count)
    ]


def runtime(beta: float, execution: Execution = PLAIN, **place: Any) -> InlineRuntime:
    given = regression(1)
    return runtime_of(
        residual_net(3), given, nn.functional.mse_loss, rule=learning(beta), execution=execution, **place
    )


def test_the_norms_are_the_largest_magnitudes(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Norms] = []
    monkeypatch.setattr("hamdist.engine.watch.growth_of", lambda seen, now: found.append(now))
    run = runtime(0.1)
    run.present_all(regression(2))
    found.clear()
    Watch({}).look(7, {name: node.carry for name, node in run.nodes.items()})
    assert found == [
        Norms(
            7,
            *(max(t.abs().max().item() for t in part.values()) for part in (c.parameters, c.weight_costate)),
        )
        for c in (node.carry for node in run.nodes.values())
    ]


class Clock:
    """A look takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_looks_are_early_at_first_and_then_take_a_thousandth_of_the_time() -> None:
    clock, run, at = Clock(), runtime(0.1), list[int]()

    def carries() -> Any:
        at.append(tick)
        clock.now += 1.0
        return {name: node.carry for name, node in run.nodes.items()}

    watch = Watch({}, clock)
    for tick in range(1, 4097):
        watch.after(tick, carries)
    assert at == [2**k for k in range(13)]
    for tick in range(4097, 4097 + 3000):
        clock.now += 1.0
        watch.after(tick, carries)
    assert at[13:] == [5096, 6096, 7096]
    watch.restart(100)
    for tick in (101, 101 + TICKS - 1):
        watch.after(tick, carries)
    assert at[16:] == [101, 101 + TICKS - 1], "soon again after a cut was restored"


FORMS: dict[str, Execution] = {"plain": PLAIN, "chunks": Execution(stacked=True, chunk=4)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["nonlocal", "local"])
def test_a_divergence_is_told_of_before(form: str, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    run = runtime(1.0, FORMS[form], mode=mode)
    with caplog.at_level(logging.WARNING), pytest.raises(DivergenceError) as caught:
        run.present_all(regression())
    told = [record for record in caplog.records if record.name == "hamdist.engine.watch"]
    assert told, str(caught.value)
    name, what, before, since, now, tick, remedy = told[0].args  # type: ignore[misc]
    assert (what, name in run.nodes) == ("weights", True)
    assert tick <= run.tick - 20
    assert 0 <= since < tick
    assert 10 * max(before, 1) <= now or before <= FAR < now
    assert str(remedy).startswith("lower learning.beta")
    assert str(caught.value).endswith(str(remedy))
    names = [record.args[0] for record in told]  # type: ignore[index]
    assert len(names) == len(set(names)), "once a layer"


@pytest.mark.parametrize("form", FORMS)
def test_what_learns_well_is_not_told_of(form: str, caplog: pytest.LogCaptureFixture) -> None:
    run = runtime(0.05, FORMS[form])
    with caplog.at_level(logging.WARNING):
        run.present_all(regression())
    assert not [record for record in caplog.records if record.name.startswith("hamdist")]
