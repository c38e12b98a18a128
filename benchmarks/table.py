"""What the benchmarks share: a table on the terminal, a verdict against a limit, the machine."""

import platform
from collections.abc import Iterable, Sequence

import torch
from rich.console import Console
from rich.table import Table


def show(title: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table; the first column to the left, numbers to the right."""
    table = Table(title=title, title_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(node if isinstance(node, str) else f"{node:.4g}" for node in row))
    console = Console()
    (console if console.is_terminal else Console(width=140)).print(table)


def verdict(name: str, value: float, limit: float, at_most: bool = True) -> str:
    """ "ratio 1.02, limit ≤ 1.25: kept"."""
    kept = value <= limit if at_most else value >= limit
    return f"{name} {value:.4g}, limit {'≤' if at_most else '≥'} {limit:g}: {'kept' if kept else 'MISSED'}"


def machine() -> str:
    processor = platform.processor() or platform.machine()
    return f"{processor}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
