"""The curves and tables of docs/locality.md: what the dial, the pairing, the gate and the rate do to learning.

Draws into docs/pictures/ (or --out DIR) and prints the tables. Everything is an example config with overrides.
"""

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from table import machine, show

import hamdist
from hamdist.errors import DivergenceError

COLOURS = {
    "non-local (backpropagation)": "#222222",
    "local, stashed, delay-scaled": "#1f77b4",
    "local, stashed, constant rate": "#9ecae1",
    "local, reversible": "#2ca02c",
    "local, current, hold 1": "#d62728",
    "local, current, hold 11, always": "#ff9896",
    "local, current, hold 11, settled": "#ff7f0e",
}
DIALS = {
    "non-local (backpropagation)": ["locality.mode=nonlocal"],
    "local, stashed, delay-scaled": [],
    "local, stashed, constant rate": ["learning.rate=constant"],
    "local, current, hold 1": ["locality.pairing=current"],
    "local, current, hold 11, always": ["locality.pairing=current", "stream.hold=11"],
    "local, current, hold 11, settled": [
        "locality.pairing=current",
        "stream.hold=11",
        "locality.gate=settled",
    ],
}
COUPLING = (
    "network.layers.1={name: block, repeat: 4, coupling: {f: [{type: Linear, in_features: 32, out_features: 32},"
    " {type: Tanh}], g: [{type: Linear, in_features: 32, out_features: 32}, {type: Tanh}]}}"
)
DIALS["local, reversible"] = ["locality.pairing=reversible", COUPLING]


def run(config: str, overrides: Sequence[str]) -> tuple[dict, list[dict]]:
    """The summary and the lines of metrics.jsonl."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "run"
        summary = hamdist.run(config, overrides, out=path)
        return summary, [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def curves(samples: int, out: Path) -> None:
    """Prequential accuracy against samples, digits at depth 6."""
    figure, axes = plt.subplots(figsize=(8, 4.5))
    rows = []
    for name, overrides in DIALS.items():
        summary, lines = run("digits", [*overrides, f"stream.samples={samples}"])
        axes.plot(
            [line["predicted"] for line in lines],
            [line["accuracy"] for line in lines],
            color=COLOURS[name],
            label=name,
            **({"linestyle": (0, (4, 3)), "linewidth": 2.5, "zorder": 5} if "non-local" in name else {}),
        )
        once = "yes" if summary["samples_seen_once"] else "no"
        rows.append(
            (name, summary["prequential"]["accuracy"], summary["holdout"]["accuracy"], summary["ticks"], once)
        )
    axes.set(
        xlabel="samples", ylabel="accuracy before learning", title="Digits, 6 layers, batch 16", ylim=(0.4, 1)
    )
    finish(figure, axes, out / "locality-curves.png")
    show(
        f"Digits, depth 6, {samples:,} samples",
        ["dial", "prequential", "hold-out", "ticks", "each once"],
        rows,
    )


def depths(samples: int, seeds: Sequence[int], out: Path) -> None:
    """Hold-out accuracy against depth."""
    names = [name for name in DIALS if "hold 11" not in name and "reversible" not in name]
    layers = (4, 8, 12, 20)
    figure, axes = plt.subplots(figsize=(8, 4.5))
    rows = []
    for name in names:
        accuracies = [
            statistics.mean(
                run(
                    "digits",
                    [
                        *DIALS[name],
                        f"network.layers.1.repeat={n - 2}",
                        f"stream.samples={samples}",
                        f"seed={seed}",
                    ],
                )[0]["holdout"]["accuracy"]
                for seed in seeds
            )
            for n in layers
        ]
        axes.plot(layers, accuracies, "o-", color=COLOURS[name], label=name)
        rows.append((name, *accuracies))
    axes.set(
        xlabel="layers",
        ylabel="hold-out accuracy",
        title=f"Digits, {samples:,} samples",
        ylim=(0, 1),
        xticks=layers,
    )
    finish(figure, axes, out / "locality-depth.png")
    show(f"Hold-out accuracy, digits, {samples:,} samples", ["dial", *map(str, layers)], rows)


def streams(samples: int, out: Path) -> None:
    """Error on a signal sampled ever more finely: the slower the stream, the better `current` does."""
    steps = (3.0, 1.0, 0.3, 0.1, 0.03)
    figure, axes = plt.subplots(figsize=(8, 4.5))
    rows = []
    for name in ("non-local (backpropagation)", "local, stashed, delay-scaled", "local, current, hold 1"):
        errors = [error_at(DIALS[name], step, samples) for step in steps]
        axes.loglog(steps, errors, "o-", color=COLOURS[name], label=name)
        rows.append((name, *errors))
    axes.set(
        xlabel="time between samples",
        ylabel="mean absolute error",
        title="Signal smoHfHa, one step ahead, batch 1",
    )
    axes.invert_xaxis()
    finish(figure, axes, out / "locality-streams.png")
    show(f"Prequential error, signals, {samples:,} samples", ["dial", *(f"step {s}" for s in steps)], rows)


def error_at(dial: Sequence[str], step: float, samples: int) -> float:
    """The prequential mean absolute error at a sampling step; NaN where the run diverged."""
    overrides = [*dial, f"stream.step={step}", f"stream.samples={samples}", "learning.beta=0.01"]
    try:
        return run("signals", overrides)[0]["prequential"]["mae"]
    except DivergenceError:
        return math.nan


def finish(figure: plt.Figure, axes: plt.Axes, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
    print(f"drawn: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["curves", "depths", "streams"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "pictures")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    quick, out = arguments.quick, arguments.out
    parts = {
        "curves": lambda: curves(4000 if quick else 16000, out),
        "depths": lambda: depths(4000 if quick else 16000, (0,) if quick else (0, 1, 2), out),
        "streams": lambda: streams(2000 if quick else 6000, out),
    }
    for part in arguments.parts:
        parts[part]()
    print(machine())


if __name__ == "__main__":
    main()
