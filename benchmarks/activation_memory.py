"""Memory of one step against depth: backpropagation, checkpoints, and fully local learning under its three pairings.

Activations' memory is everything alive that is not a weight, its momentum or its gradient. Of that, *kept* is what is
alive between two steps (of PyTorch nothing; of hamdist the signals and costates on the edges, and the points that its
pairing keeps), and *the step's own* is what the peak of a step adds. On the CPU every storage is followed from its
making to its end; on a GPU (--device cuda) the allocator's own peak counts, with the kernels' work space, and with the
gradients of a step. *Saved* is a second count: the most bytes that autograd saves at a time, weights left out.

A gradient of a weight counts until it is complete in PyTorch, and for hamdist until the layer has learnt. Everybody
uses the same batch, which does not count either. Reversible blocks are couplings (see deep_networks.py).
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from activation_contenders import Batch, Contender, Local, Loop
from deep_networks import Kind, convolutional, transformer
from live_bytes import LiveBytes, SavedBytes
from table import machine, show, verdict
from torch import Tensor

DEPTHS = (2, 4, 8, 16, 32, 64)
KINDS = (convolutional(channels=16, side=16), transformer(width=32, positions=128))
ROWS = 4
PLAIN, CURRENT = "backpropagation", "local, current"
Make = Callable[[Kind, int, Batch], Contender]
CONTENDERS: dict[str, Make] = {
    PLAIN: partial(Loop, checkpoints=False),
    "checkpoint a block": partial(Loop, checkpoints=True),
    CURRENT: partial(Local, pairing="current"),
    "local, reversible": partial(Local, pairing="reversible"),
    "local, stashed": partial(Local, pairing="stashed"),
}
COLOURS = dict(zip(CONTENDERS, ("#222222", "#7f7f7f", "#d62728", "#2ca02c", "#1f77b4"), strict=True))
LIMIT = 1.2
MIB = 2**20


class Usage(NamedTuple):
    """Bytes. kept: between steps.  peak: within one, kept included.  saved: by autograd, None if it can't be told."""

    kept: int
    peak: int
    saved: int | None

    @property
    def own(self) -> int:
        return self.peak - self.kept


Figures = dict[str, list[Usage]]  # by contender, one for each depth


def on_cpu(make: Callable[[], Contender]) -> Usage:
    with LiveBytes() as live:
        contender = make()
        for _ in range(contender.fill):
            contender.step()
        live.ignore(contender.weights())
        if isinstance(contender, Loop):
            for parameter in contender.model.parameters():
                parameter.register_post_accumulate_grad_hook(lambda p: live.ignore([p.grad]))
        kept = live.peak = live.now
        contender.step()
        return Usage(kept, live.peak, _saved(contender))


def _saved(contender: Contender) -> int | None:
    if isinstance(contender, Loop) and contender.checkpoints:
        return None
    saved = SavedBytes(contender.weights())
    with saved:
        contender.step()
    return saved.peak


def on_gpu(make: Callable[[], Contender]) -> Usage:
    before = torch.cuda.memory_allocated()
    contender = make()
    for _ in range(contender.fill):
        contender.step()
    torch.cuda.synchronize()
    weights = before + _bytes(contender.weights())
    kept = torch.cuda.memory_allocated() - weights
    torch.cuda.reset_peak_memory_stats()
    contender.step()
    torch.cuda.synchronize()
    return Usage(kept, torch.cuda.max_memory_allocated() - weights, _saved(contender))


def _bytes(tensors: Iterable[Tensor]) -> int:
    """As the allocator counts them, in whole blocks of 512."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(-(-size // 512) * 512 for size in storages.values())


def measure(kind: Kind, depths: Sequence[int], device: torch.device) -> Figures:
    batch, used = kind.batch(ROWS, device), on_gpu if device.type == "cuda" else on_cpu
    if device.type == "cuda":
        used(lambda: Loop(kind, depths[0], batch, False))  # libraries take their work space once
    figures: Figures = {}
    for name, make in CONTENDERS.items():
        figures[name] = [used(partial(make, kind, depth, batch)) for depth in depths]
    return figures


def report(kind: Kind, depths: Sequence[int], figures: Figures) -> None:
    headings = ["MiB, by blocks", *map(str, depths)]
    tables: dict[str, Callable[[Usage], int | None]] = {
        "peak of a step": lambda usage: usage.peak,
        "kept between steps": lambda usage: usage.kept,
        "the step's own": lambda usage: usage.own,
        "saved by autograd": lambda usage: usage.saved,
    }
    for title, pick in tables.items():
        rows = [(name, *map(_mib, map(pick, usages))) for name, usages in figures.items()]
        show(f"{kind.name}, batch {ROWS}: {title}", headings, rows)
    for name in (CURRENT, PLAIN):
        first, *_, last = (usage.own for usage in figures[name])
        told = f"{kind.name}: {name}, the step's own at {depths[-1]} blocks / at {depths[0]}"
        print(verdict(told, last / first, LIMIT) if name == CURRENT else f"{told} {last / first:.4g}")


def _mib(size: int | None) -> str:
    return "–" if size is None else f"{size / MIB:.2f}"


def draw(found: dict[Kind, Figures], depths: Sequence[int], path: Path) -> None:
    """Above the peak of a step, below what of it is the step's own; a column for each kind."""
    figure, grid = plt.subplots(2, len(found), figsize=(11, 8), sharex=True, squeeze=False)
    for column, (kind, figures) in enumerate(found.items()):
        for name, usages in figures.items():
            style = {"color": COLOURS[name], "marker": "o", "linewidth": 2}
            grid[0][column].plot(depths, [usage.peak / MIB for usage in usages], label=name, **style)
            grid[1][column].plot(depths, [usage.own / MIB for usage in usages], **style)
        grid[0][column].set_title(f"{kind.name}\npeak of a step")
        grid[1][column].set_title("of that, beyond what is kept between steps")
        grid[1][column].set_xlabel("blocks")
    for axes in grid.flat:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
    for row in grid:
        row[0].set_ylabel("MiB")
    grid[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to 8 blocks")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="draws a picture")
    options = parser.parse_args()
    torch.set_num_threads(1)
    depths, device = DEPTHS[:3] if options.quick else DEPTHS, torch.device(options.device)
    found = {}
    for kind in KINDS:
        found[kind] = measure(kind, depths, device)
        report(kind, depths, found[kind])
    if options.out is not None:
        draw(found, depths, options.out)
    print(machine())


if __name__ == "__main__":
    main()
