"""Compiled ticks: the numbers of uncompiled ones within rounding, and a run that goes on where nothing compiles."""

import warnings

import pytest
import torch
from support.comparing import everything
from support.inline import learning, runtime_of
from support.networks import mlp
from support.samples import samples
from torch import Tensor, nn

from hamdist.compiler.inductor import to_machine_code
from hamdist.compiler.trace import Traced
from hamdist.engine.fused.ready_ticks import HOT, ChunkPattern, ReadyTicks
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.spec import PLAIN, Execution
from hamdist.network.locality import Horizon
from hamdist.physics import statespace

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")]


def carried(runtime: InlineRuntime) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor
        for name, node in runtime.nodes.items()
        for key, tensor in everything(node).items()
    }


def test_compiled_chunks_give_the_numbers_of_plain_ticks():
    """Momentum's `alpha` is in a sum with a matrix product, where one version of the compiler dropped it."""
    batches = samples(36, (8,))
    plain, compiled = (
        runtime_of(mlp(2), batches, execution=execution)
        for execution in (PLAIN, Execution(stacked=True, compiled=True, chunk=2))
    )
    for runtime in (plain, compiled):
        runtime.present_all(batches)
        list(runtime.drain())
    assert "not_compiled" not in compiled.execution
    assert compiled.execution["compile_seconds"] > 0
    ours, theirs = carried(compiled), carried(plain)
    assert max((ours[key] - theirs[key]).abs().max().item() for key in theirs) < 1e-10
    assert compiled.seen_once()


def test_a_sum_of_a_matrix_product_times_alpha_is_what_it_says():
    def function(theta: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
        return [theta.add_(a @ b, alpha=-0.25)]

    examples = [torch.randn(8, 8) for _ in range(3)]
    compiled = Traced(function, *examples, eager=False)
    to_machine_code(compiled, examples)
    given, expected = ([tensor.clone() for tensor in examples] for _ in range(2))
    (result,), (theirs,) = compiled.flat(given), function(*expected)
    assert result is given[0]
    assert torch.allclose(result, theirs, atol=1e-6)


def test_what_is_not_compiled_is_traced_once():
    made = []

    def make(eager: bool) -> Traced:
        made.append(eager)
        return Traced(lambda x: [x + 1], torch.zeros(2), eager=eager)

    ticks = ReadyTicks(compiles=False, chunk=4)
    for _ in range(2 * HOT):
        ticks.of(ChunkPattern((True,), False), make, [torch.zeros(2)])
    assert made == [True]


@pytest.mark.parametrize("message", ["no C++ compiler\nand more", ""])
def test_where_nothing_compiles_a_run_says_so_once_and_goes_on(monkeypatch, message):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(torch._inductor, "compile", broken)
    batches = samples(30, (8,))
    stacked, compiled = (
        runtime_of(mlp(3), batches, execution=execution)
        for execution in (Execution(stacked=True, chunk=2), Execution(stacked=True, compiled=True, chunk=2))
    )
    stacked.present_all(batches)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        compiled.present_all(batches)
    assert [str(w.message) for w in told] == [
        f"ticks run uncompiled: {(message or repr(RuntimeError(''))).splitlines()[0]}"
    ]
    assert compiled.execution["not_compiled"] in str(told[0].message)
    ours, theirs = carried(compiled), carried(stacked)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def over_time(execution: Execution) -> InlineRuntime:
    """Windows of five ticks, in which episodes begin now and then, in one row or the other."""
    torch.manual_seed(1)
    layer = nn.Sequential(statespace.CTBE(8, 6, initial="learnt"), nn.Tanh(), nn.Linear(6, 3)).double()
    batches = [(x[:2], y[:2]) for x, y in samples(23, (8,))]
    place = {"horizon": Horizon(5, slid=True), "rule": learning(tau=0.5)}
    runtime = runtime_of([layer], batches, execution=execution, **place)
    for k, (x, y) in enumerate(batches):
        list(runtime.present(x, y, restarts=torch.tensor([k % 9 == 4, k % 7 == 2])))
    list(runtime.drain())
    return runtime


def test_a_compiled_step_back_through_a_window_gives_the_numbers_of_a_plain_one():
    plain, compiled = over_time(PLAIN), over_time(Execution(stacked=True, compiled=True))
    assert compiled.execution["compile_seconds"] > 0
    ours, theirs = carried(compiled), carried(plain)
    assert max((ours[key] - theirs[key]).abs().max().item() for key in theirs) < 1e-10


def test_where_nothing_compiles_a_window_is_gone_through_uncompiled(monkeypatch):
    monkeypatch.setattr(torch._inductor, "compile", lambda *_, **__: 1 / 0)
    with pytest.warns(UserWarning, match="windows of time are gone through uncompiled: division by zero"):
        compiled = over_time(Execution(stacked=True, compiled=True))
    assert "compile_seconds" not in compiled.execution
    ours, theirs = carried(compiled), carried(over_time(Execution(stacked=True)))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_what_is_compiled_is_said_before(caplog: pytest.LogCaptureFixture):
    """It may take minutes. The compiler sees nothing here."""
    said: list[str] = []

    def make(eager: bool) -> Traced:
        said.extend(record.getMessage() for record in caplog.records)
        raise KeyError(eager)

    caplog.set_level("INFO", "hamdist")
    with pytest.raises(KeyError):
        ReadyTicks(compiles=True, chunk=4, of="a and b")._compiling(make, [])
    assert said == ["compiling the ticks of a and b, 4 at a time"]
