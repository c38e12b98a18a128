"""Steps of hamdist node by node, stacked, and compiled, against PyTorch's as it is and compiled; one thread.

    32x64, 128x16, 32x64-16    fully local chains of [Linear, Tanh], depth x width, batch 1 (the last: 16)
    4x64, 8x64-16, 8x1024-64   non-local ones: the same learning as PyTorch's, bit for bit but for rounding
    cssm                       a layer with a memory of 32 units; batch 1
    student                    the signal school's: 1000 units that turn in pairs, 20 memories; batch 1
    blocked, slid              the memory of 32 units, backward in time over windows of 20 ticks

PyTorch takes a step of SGD with momentum: zero_grad, loss, backward, step (foreach). Compiled, it is the whole step,
update included, in one graph, a step a call. Fully local learning pairs by `current` unless said otherwise; the layers
of `reversible` are couplings instead, with half of the weights, and PyTorch's step of them stands beside. All batches
are at hand, so that chunks of ticks run in one go. Contenders take turns; figures are medians over the rounds, ratios
medians of the rounds' ratios. Compiling comes before, and is told apart.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from recurrent_contenders import (
    Student,
    cssm,
    cssm_batches,
    recurrent_ours,
    recurrent_pytorch,
    student_batches,
    student_ours,
    windowed_ours,
    windowed_pytorch,
)
from rounds import Times, in_rounds, ratio
from step_contenders import (
    BATCHES,
    Steps,
    batches,
    chain,
    couplings,
    ours,
    pytorch,
    pytorch_compiled,
    seconds,
)
from table import machine, show, verdict

from hamdist.engine.spec import PLAIN, STACKED, Execution
from hamdist.network.locality import Horizon, Locality
from hamdist.physics.memory import PairingName

PYTORCH, COMPILED_PEER, COUPLINGS = "PyTorch", "PyTorch, compiled", "PyTorch, couplings"
NODE_BY_NODE, STACKS, COMPILES = "node by node", "stacked", "compiled"
UNITS, STUDENTS_UNITS, WINDOW = 32, 1000, 20
Make = Callable[[], Steps | None]


class Limit(NamedTuple):
    """above / below, or the µs of `above` alone, must be at least, or at most, the figure."""

    above: str
    below: str | None
    figure: float
    at_most: bool = False


class Options(NamedTuple):
    """chunk: ticks compiled in one go.  peer_seconds: PyTorch's compiler gets so many, None to go without it."""

    chunk: int
    peer_seconds: float | None
    rounds: int
    least: float


class Case(NamedTuple):
    """makers: who takes steps, in the order of the table."""

    title: str
    makers: Callable[[Options], Mapping[str, Make]]
    limits: tuple[Limit, ...]


def forms(chunk: int) -> dict[str, Execution]:
    return {NODE_BY_NODE: PLAIN, STACKS: STACKED, COMPILES: Execution(True, True, chunk)}


def local(depth: int, width: int, rows: int, options: Options) -> dict[str, Make]:
    data = batches(rows, width)
    makers: dict[str, Make] = {PYTORCH: lambda: pytorch(chain(depth, width), data)}
    if options.peer_seconds is not None:
        makers[COMPILED_PEER] = partial(pytorch_compiled, chain(depth, width), data, options.peer_seconds)
    pairings: tuple[PairingName, ...] = ("current", "stashed", "reversible")
    for pairing in pairings:
        layers = couplings if pairing == "reversible" else chain
        for form, execution in forms(options.chunk).items():
            if pairing == "current" or form != NODE_BY_NODE:
                name = form if pairing == "current" else f"{form}, {pairing}"
                makers[name] = partial(ours, layers(depth, width), data, Locality(pairing=pairing), execution)
    return {**makers, COUPLINGS: lambda: pytorch(couplings(depth, width), data)}


def backpropagating(depth: int, width: int, rows: int, options: Options) -> dict[str, Make]:
    """Its layers wait for each other, so that a compiled tick is long: a chunk has 2 of them."""
    data, place = batches(rows, width), Locality("nonlocal")
    makers: dict[str, Make] = {PYTORCH: lambda: pytorch(chain(depth, width), data)}
    for form, execution in forms(2).items():
        makers[form] = partial(ours, chain(depth, width), data, place, execution)
    return makers


def recurrent(options: Options) -> dict[str, Make]:
    data = cssm_batches(max(BATCHES, options.chunk))
    makers: dict[str, Make] = {PYTORCH: lambda: recurrent_pytorch(cssm(UNITS), data)}
    for form, execution in forms(options.chunk).items():
        makers[form] = partial(recurrent_ours, UNITS, data, execution)
    return makers


def student(options: Options) -> dict[str, Make]:
    data = student_batches(max(BATCHES, options.chunk))
    makers: dict[str, Make] = {PYTORCH: lambda: recurrent_pytorch(Student(STUDENTS_UNITS), data)}
    for form, execution in forms(options.chunk).items():
        makers[form] = partial(student_ours, STUDENTS_UNITS, data, execution)
    return makers


def windows(slid: bool, options: Options) -> dict[str, Make]:
    data, horizon = cssm_batches(BATCHES), Horizon(WINDOW, slid)
    makers: dict[str, Make] = {PYTORCH: lambda: windowed_pytorch(cssm(UNITS), data, horizon)}
    for form, execution in forms(1).items():
        makers[form] = partial(windowed_ours, UNITS, data, execution, horizon)
    return makers


def against_both(eager: float, compiled: float) -> tuple[Limit, Limit]:
    """By what factor the compiled form must beat PyTorch, as it is and compiled."""
    return Limit(PYTORCH, COMPILES, eager), Limit(COMPILED_PEER, COMPILES, compiled)


CASES = {
    "32x64": Case(
        "Fully local, 32 x 64, batch 1",
        partial(local, 32, 64, 1),
        (*against_both(20, 8), Limit(PYTORCH, STACKS, 6)),
    ),
    "128x16": Case("Fully local, 128 x 16, batch 1", partial(local, 128, 16, 1), against_both(100, 40)),
    "32x64-16": Case("Fully local, 32 x 64, batch 16", partial(local, 32, 64, 16), against_both(4, 2)),
    "4x64": Case(
        "Non-local, 4 x 64, batch 1",
        partial(backpropagating, 4, 64, 1),
        (Limit(COMPILES, PYTORCH, 1.1, at_most=True),),
    ),
    "8x64-16": Case(
        "Non-local, 8 x 64, batch 16",
        partial(backpropagating, 8, 64, 16),
        (Limit(COMPILES, PYTORCH, 1.1, at_most=True),),
    ),
    "8x1024-64": Case(
        "Non-local, 8 x 1024, batch 64",
        partial(backpropagating, 8, 1024, 64),
        (Limit(STACKS, PYTORCH, 1.05, at_most=True), Limit(COMPILES, PYTORCH, 1.05, at_most=True)),
    ),
    "cssm": Case(
        f"A memory of {UNITS} units, batch 1", recurrent, (Limit(COMPILES, None, 35, at_most=True),)
    ),
    "student": Case(
        f"A student of signals, {STUDENTS_UNITS} units, 20 memories, batch 1",
        student,
        (Limit(COMPILES, None, 100, at_most=True),),
    ),
    "blocked": Case(
        f"Windows of {WINDOW} ticks, {UNITS} units, blocked, batch 1", partial(windows, False), ()
    ),
    "slid": Case(f"Windows of {WINDOW} ticks, {UNITS} units, slid, batch 1", partial(windows, True), ()),
}


def report(case: Case, found: Mapping[str, Steps], times: Times) -> None:
    rows = []
    for name, taken in times.items():
        compiling = found[name].compiling
        ratios = [
            f"{ratio(times[peer], taken):.4g}" if peer in times else "–" for peer in (PYTORCH, COMPILED_PEER)
        ]
        rows.append(
            (name, 1e6 * statistics.median(taken), *ratios, "" if compiling is None else f"{compiling:.0f}")
        )
    headings = ["", "µs a step", "PyTorch / it", "PyTorch, compiled / it", "s to compile"]
    show(case.title, headings, rows)
    for limit in case.limits:
        print(judged(limit, times))


def judged(limit: Limit, times: Times) -> str:
    if any(name not in times for name in (limit.above, limit.below) if name is not None):
        return f"{limit.above} / {limit.below}: not measured"
    if limit.below is None:
        figure = 1e6 * statistics.median(times[limit.above])
        return verdict(f"{limit.above}, µs", figure, limit.figure, limit.at_most)
    figure = ratio(times[limit.above], times[limit.below])
    return verdict(f"{limit.above} / {limit.below}", figure, limit.figure, limit.at_most)


def run(case: Case, options: Options) -> None:
    found = {name: make() for name, make in case.makers(options).items()}
    for name in [name for name, steps in found.items() if steps is None]:
        print(f"{name}: not compiled within {options.peer_seconds:g} s")
    ready = {name: steps for name, steps in found.items() if steps is not None}
    measures = {name: partial(seconds, steps, options.least) for name, steps in ready.items()}
    report(case, ready, in_rounds(measures, options.rounds))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="chunks of 2 ticks, few rounds")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--no-compiled-peer", action="store_true", help="PyTorch's step is not compiled")
    given = parser.parse_args()
    torch.set_num_threads(1)
    chunk, limit, rounds, least = (2, 30.0, 2, 0.05) if given.quick else (16, 1200.0, 9, 0.5)
    options = Options(chunk, None if given.no_compiled_peer else limit, given.rounds or rounds, least)
    for name in given.only:
        run(CASES[name], options)
    print(machine())


if __name__ == "__main__":
    main()
