"""Exact gradients forward in time (`time: exact`): what they learn that others do not, and what a tick of them costs.

The copy task: every tick brings a sign at random, and the sign of ten ticks ago is to be said. 16 complex units (LRU)
learn it one sample at a time, with Adam: exactly, forward in time as published, by gradients truncated after a tick,
and by truncated backpropagation over the last 20 ticks at every tick. The mean squared error of the last tenth of the
ticks, 1 for who says zero; of the rates of one grid each takes the one whose median over the seeds is best.

The tick: an LRU of 32 units with 32 inputs, compiled, four ticks in one go, all samples at hand; exact and forward take
turns. The ratio is the median of the rounds'.
"""

import argparse
import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from rounds import in_rounds, ratio
from step_contenders import Batch, Steps, batches, mse, ours, seconds
from table import machine, show, verdict

from hamdist.engine.build import program
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.spec import Execution
from hamdist.errors import DivergenceError
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.learning import Learning
from hamdist.network.locality import Horizon, Locality
from hamdist.network.network import Network
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.rates import Adam, Rate
from hamdist.physics.statespace import LRU

LAG, UNITS = 10, 16
WAYS: Mapping[str, dict[str, Any]] = {
    "exact": {"exact": True},
    "forward": {"pairing": "current"},
    "truncated after 1 tick": {"horizon": Horizon(1, slid=True)},
    "TBPTT(20)": {"horizon": Horizon(20, slid=True)},
}
RATES = (0.0003, 0.001, 0.003, 0.01)
COMPILED = Execution(stacked=True, compiled=True, chunk=4)


def signs(ticks: int, seed: int) -> list[Batch]:
    """Signs [1, 1], each with that of LAG ticks before, zero at first."""
    generator = torch.Generator().manual_seed(1000 + seed)
    drawn = torch.randint(0, 2, (ticks, 1, 1), generator=generator) * 2.0 - 1
    before = torch.cat([torch.zeros(LAG, 1, 1), drawn[:-LAG]])
    return list(zip(drawn, before, strict=True))


def copying_error(way: str, rate: float, seed: int, ticks: int) -> float:
    """Infinite where it diverges."""
    data = signs(ticks, seed)
    network = Network.of([LayerSpec("lru", lambda: LRU(1, UNITS, 1, r_min=0.9, r_max=0.99))], mse)
    learning = Learning(Dynamics(rate=Rate(rate, adaptive=Adam())), rate="constant")
    place = Locality("nonlocal", **WAYS[way])
    runtime = InlineRuntime(program(network, place, learning, data[0], seed, execution=COMPILED))
    try:
        predictions = runtime.present_all(data)
    except DivergenceError:
        return math.inf
    return torch.stack([p.loss for p in predictions[-ticks // 10 :]]).mean().item()


def copying(way: str, rates: Sequence[float], seeds: Sequence[int], ticks: int) -> tuple[float, list[float]]:
    """The best rate, and the error of every seed with it."""
    found = {rate: [copying_error(way, rate, seed, ticks) for seed in seeds] for rate in rates}
    best = min(rates, key=lambda rate: statistics.median(found[rate]))
    return best, found[best]


def copies(ways: Sequence[str], rates: Sequence[float], seeds: Sequence[int], ticks: int) -> None:
    rows, medians = [], {}
    for way in ways:
        rate, errors = copying(way, rates, seeds, ticks)
        medians[way] = statistics.median(errors)
        rows.append((way, medians[way], min(errors), max(errors), f"{rate:g}"))
    title = f"a sign of {LAG} ticks ago: mean squared error after {ticks} ticks, {len(seeds)} seeds"
    show(title, ["", "median", "least", "most", "rate"], rows)
    if "exact" in medians and len(rates) > 1:  # a short look keeps no limit
        print(verdict("copy task, exact", medians["exact"], 0.1))


def ticking(rows: int, place: Mapping[str, Any]) -> Steps:
    torch.manual_seed(0)
    network = Network.of([LayerSpec("lru", partial(LRU, 32, 32, 32))], mse)
    return ours(network, batches(rows, 32), Locality("nonlocal", **place), COMPILED)


def costs(rounds: int, least: float) -> None:
    rows, verdicts = [], []
    for batch, limit in ((1, 2.5), (16, math.inf)):
        contenders = {way: partial(seconds, ticking(batch, WAYS[way]), least) for way in ("exact", "forward")}
        times = in_rounds(contenders, rounds)
        cost = ratio(times["exact"], times["forward"])
        rows.append((f"batch {batch}", *(1e6 * statistics.median(times[way]) for way in contenders), cost))
        verdicts += [verdict("exact / forward, batch 1", cost, limit)] if limit < math.inf else []
    show("a compiled tick: LRU, 32 units, 32 inputs", ["", "exact, µs", "forward, µs", "ratio"], rows)
    print(*verdicts, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three seeds, one rate, fewer ticks and rounds")
    parser.add_argument("--only", choices=("copy", "tick"))
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.only != "tick":
        seeds, rates, ticks = (range(3), (0.001,), 6000) if given.quick else (range(7), RATES, 20000)
        copies(given.ways, rates, seeds, ticks)
    if given.only != "copy":
        costs(*((5, 0.3) if given.quick else (11, 1.0)))
    print(machine())


if __name__ == "__main__":
    main()
