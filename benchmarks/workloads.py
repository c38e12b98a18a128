"""Learning off digits' beaten track: fully local, stashed, beside non-local learning of the same network.

Each side is at its best of one small grid, chosen with another seed than those reported: rules by rates. Tables: the
score of every workload, and in how many steps the character model's loss comes down to 2.2.

    python benchmarks/workloads.py [WORKLOAD …] [--quick] [--rules RULE …] [--seeds N]
"""

import argparse
import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from table import machine, show, verdict
from workload_kinds import WORKLOADS, Workload

import hamdist
from hamdist.errors import DivergenceError

TUNING, SEEDS = 10, (0, 1, 2)
RATES = (0.003, 0.01, 0.02)
REACHED = 2.2  # the character model's loss, as a running mean of twenty steps
LIMITS = {"character": 0.15, "conv": 0.02, "graph": 0.02, "Agrawal": 0.01, "RBF": 0.01, "TrumpApproval": 0.05}
RELATIVE = ("TrumpApproval",)

Settings = dict[str, Any]
Rule = Callable[[float, int], Settings]  # of a rate, and how many updates there will be


def falling(rate: float, updates: int) -> Settings:
    """β after a tenth of warm-up along a line to 0."""
    return {"schedule": "linear", "start": rate, "over": updates, "warmup": max(1, updates // 10)}


def adam(rate: float, updates: int) -> Settings:
    return {"adaptive": {"type": "adamw"}, "beta": rate}


def adam_falling(rate: float, updates: int) -> Settings:
    return {"adaptive": {"type": "adamw"}, "beta": falling(rate, updates)}


def steady(rate: float, updates: int) -> Settings:
    """Adam without its first moment, which is a momentum."""
    return {"adaptive": {"type": "adamw", "b1": 0.0}, "beta": rate}


def soap(rate: float, updates: int) -> Settings:
    return {"adaptive": {"type": "soap"}, "beta": rate}


def soap_falling(rate: float, updates: int) -> Settings:
    return {"adaptive": {"type": "soap"}, "beta": falling(rate, updates)}


ENDLESS: dict[str, Rule] = {"adam": adam, "adam, b1 0": steady, "soap": soap}
ENDING: dict[str, Rule] = {"adam, falling": adam_falling, "soap, falling": soap_falling}
RULES = ENDLESS | ENDING


@dataclass(frozen=True)
class Learnt:
    """score: NaN where it diverged.  reached: the first step of the loss looked for, None where it never came."""

    score: float
    reached: int | None


def learnt(workload: Workload, mode: str, settings: Settings, seed: int, updates: int) -> Learnt:
    learner = hamdist.Learner(workload.network(), locality=mode, seed=seed, **settings)
    mean, reached, batches = None, None, itertools.islice(workload.batches(seed), updates)
    try:
        for step, (x, target) in enumerate(batches, 1):
            prediction = learner.step(x, target)
            if prediction is not None:
                loss = prediction.loss.item()
                mean = loss if mean is None else 0.95 * mean + 0.05 * loss
                reached = step if reached is None and mean < REACHED else reached
        learner.drain()
    except DivergenceError:
        return Learnt(float("nan"), reached)
    found = learner.evaluate(workload.held_out(seed)) if workload.held_out else learner.metrics
    return Learnt(found[workload.score], reached)


def best(workload: Workload, mode: str, rules: list[str], updates: int) -> tuple[str, float]:
    """The rule and the rate with the best score of the seed for tuning."""
    tried = {
        (rule, rate): learnt(workload, mode, RULES[rule](rate, updates), TUNING, updates).score
        for rule in rules
        for rate in RATES
    }
    for (rule, rate), score in tried.items():
        print(f"{workload.name}, {mode}: {rule}, {rate:g}: {score:.4f}", flush=True)
    known = {key: score if workload.falls else -score for key, score in tried.items() if score == score}
    return min(known, key=known.__getitem__)


def compared(workload: Workload, rules: list[str], seeds: tuple[int, ...], updates: int) -> list[tuple]:
    """A row a side: chosen, mean score, the lowest and the highest, median of the steps to the loss looked for."""
    rows = []
    for label, mode in (("non-local", "nonlocal"), ("fully local", "local")):
        rule, rate = best(workload, mode, rules, updates)
        found = [learnt(workload, mode, RULES[rule](rate, updates), seed, updates) for seed in seeds]
        scores = [each.score for each in found]
        steps = [each.reached if each.reached is not None else float("inf") for each in found]
        shown = statistics.median(steps) if workload.name == "character" else "–"
        mean = statistics.mean(scores)
        rows.append((f"{workload.name}, {label}", f"{rule}, {rate:g}", mean, min(scores), max(scores), shown))
    return rows


def judged(workload: Workload, nonlocal_score: float, local_score: float) -> str:
    worse = local_score - nonlocal_score if workload.falls else nonlocal_score - local_score
    if workload.name in RELATIVE:
        worse /= nonlocal_score
    return verdict(f"{workload.name}, fully local behind non-local by", worse, LIMITS[workload.name])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument(
        "--rules",
        nargs="+",
        choices=RULES,
        help="those of the grid; those for streams that end, or do not, by default",
    )
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many are reported")
    parser.add_argument("--quick", action="store_true", help="a tenth of the updates, one seed")
    given = parser.parse_args()
    rows, verdicts = [], []
    for name in given.workloads:
        workload = WORKLOADS[name]
        updates = workload.updates // 10 if given.quick else workload.updates
        seeds = tuple(range(1 if given.quick else given.seeds))
        rules = given.rules or list(ENDING if workload.held_out else ENDLESS)
        found = compared(workload, rules, seeds, updates)
        rows += found
        verdicts.append(judged(workload, found[0][2], found[1][2]))
    headings = ["workload", "chosen", "score", "lowest", "highest", f"steps to a loss of {REACHED}"]
    show("Fully local beside non-local learning", headings, rows)
    print("\n".join(verdicts), machine(), sep="\n")


if __name__ == "__main__":
    main()
