"""Draws dial.png: which sample every layer works on at every tick, at three positions of the dial."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Polygon
from torch import nn

import hamdist
from hamdist.network.locality import Locality, apply_locality
from hamdist.network.timing import arrivals, depths

LAYERS, TICKS = 6, 14
DIAL = {
    "non-local: backpropagation": Locality("nonlocal"),
    "groups of three": Locality("groups", groups=[["0", "1", "2"], ["3", "4", "5"]]),
    "fully local": Locality("local"),
}
PALETTE = plt.get_cmap("turbo")


def colour(sample: int) -> tuple[float, ...]:
    return PALETTE(0.08 + 0.84 * sample / (TICKS - 1))


def cell(
    axes: plt.Axes, tick: int, layer: int, corners: list[tuple[float, float]], sample: int, at: float
) -> None:
    """One half of a square, in the colour and with the number of a sample."""
    axes.add_patch(
        Polygon(
            [(tick + x, layer + y) for x, y in corners], facecolor=colour(sample), edgecolor="white", lw=0.8
        )
    )
    axes.text(tick + at, layer + at, str(sample), ha="center", va="center", fontsize=6.5, color="white")


def panel(axes: plt.Axes, title: str, locality: Locality) -> None:
    network = hamdist.Network.of([nn.Identity() for _ in range(LAYERS)], nn.functional.mse_loss)
    graph = apply_locality(network.graph, locality)
    arrival, depth = arrivals(graph), depths(graph)
    for layer, name in enumerate(graph.layers):
        for tick in range(TICKS):
            forward = tick - arrival[name]
            back = forward - depth[name]
            if forward >= 0:
                cell(axes, tick, layer, [(0, 0), (1, 0), (0, 1)], forward, 0.31)
            if back >= 0:
                cell(axes, tick, layer, [(1, 1), (1, 0), (0, 1)], back, 0.69)
    axes.set(xlim=(0, TICKS), ylim=(LAYERS, 0), xlabel="tick", xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, fontsize=11)
    axes.spines[:].set_visible(False)


def main() -> None:
    figure, axes = plt.subplots(1, len(DIAL), figsize=(13, 2.7))
    for place, (title, locality) in zip(axes, DIAL.items(), strict=True):
        panel(place, title, locality)
    axes[0].set_yticks([i + 0.5 for i in range(LAYERS)], [f"layer {i}" for i in range(LAYERS)], fontsize=8)
    axes[0].tick_params(length=0)
    figure.tight_layout(w_pad=1.5)
    figure.savefig(Path(__file__).with_name("dial.png"), dpi=140)


if __name__ == "__main__":
    main()
