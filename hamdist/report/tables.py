"""Tables for the terminal: the plan of a network, and the summary of a run."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hamdist.report.wording import lasting, short


class ShownLayer(Protocol):
    """A row of a plan's layers; shapes are without the batch, sizes in bytes, flops per tick, of a whole batch."""

    name: str
    kind: str
    parameters: int
    inputs_shape: Any
    output_shape: Any
    arrival: int
    depth_delay: int
    stash_bytes: int
    flops: int
    device: str
    actor: Any


class ShownEdge(Protocol):
    """A row of a plan's edges; lag in ticks, of feedback only."""

    source: str
    target: str
    delay: int
    kind: str
    signal_bytes: int
    lag: int | None


def layers_table(layers: Sequence[ShownLayer]) -> Table:
    """Per layer: its size, when a sample arrives at it, and how many ticks later the costate returns.

    Devices and actors are columns only where they differ.
    """
    table = _table(
        "Layers", left=("layer", "kind"), middle=("in → out",), right=("parameters", "arrival", "delay")
    )
    table.columns[0].no_wrap = True
    table.columns[0].min_width = max((len(layer.name) for layer in layers), default=0)
    places = [
        name for name in ("device", "actor") if len({str(getattr(layer, name)) for layer in layers}) > 1
    ]
    for heading in ("stash", "flops", *places):
        table.add_column(heading, justify="right")
    for layer in layers:
        table.add_row(
            layer.name,
            escape(layer.kind),
            f"{_shape(layer.inputs_shape)} → {_shape(layer.output_shape)}",
            f"{layer.parameters:,}",
            str(layer.arrival),
            str(layer.depth_delay),
            f"{short(layer.stash_bytes)}B",
            short(layer.flops),
            *(str(getattr(layer, name)) for name in places),
        )
    return table


def edges_table(edges: Iterable[ShownEdge]) -> Table:
    """Per edge: its delay, the size of its signal, and the lag of feedback."""
    table = _table("Edges", left=("from", "to", "kind"), right=("delay", "signal", "lag"))
    for edge in edges:
        lag = "" if edge.lag is None else str(edge.lag)
        signal = f"{short(edge.signal_bytes)}B"
        table.add_row(edge.source, edge.target, edge.kind, str(edge.delay), signal, lag)
    return table


def summary_table(summary: Mapping[str, Any]) -> Table:
    """What came of a run, from its summary."""
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column()
    for name, value in _summary_rows(summary):
        table.add_row(name, Text(value))
    return table


def _summary_rows(summary: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "status", str(summary["status"])
    yield "loss", "none" if summary["loss"] is None else f"{summary['loss']:.4g}"
    yield "prequential", _metrics(summary["prequential"])
    yield "hold-out", _metrics(summary["holdout"])
    once = "each seen once" if summary["samples_seen_once"] else "not each seen exactly once"
    promised = summary.get("samples_promised")
    short = "" if promised is None else f"; the stream ended there, {promised:,} were asked for"
    yield "samples", f"{summary['samples']:,} in {summary['ticks']:,} ticks, {once}{short}"
    yield "speed", f"{summary['samples_per_second']:,.0f} samples a second"
    yield "duration", _phases(summary)
    for name, told in summary.get("execution", {}).items():
        if reason := told.get("node_by_node"):
            yield "execution", f"{name}: node by node ({reason})"
        for form in ("not_traced", "not_stacked"):
            for layer, reason in told.get(form, {}).items():
                yield "execution", f"{layer} is {form.replace('_', ' ')}: {reason}"
    for restart in summary.get("restarts", ()):
        yield "restart", _restart(restart)
    if (checkpoints := summary.get("checkpoints", {})) and checkpoints["failed"]:
        yield "checkpoints", f"{checkpoints['written']} written, {checkpoints['failed']} could not be"
    if latency := summary.get("latency"):
        yield "latency", _latency(latency)
    for name, profile in summary.get("profile", {}).items():
        yield "time", f"{name}: {_shares(profile['percent'])}"
    if directory := summary.get("directory"):
        yield "directory", str(directory)
    if directory and "profile" in summary:
        yield "trace", f"{directory}/trace.json, to be opened in ui.perfetto.dev or chrome://tracing"


def _phases(summary: Mapping[str, Any]) -> str:
    """ "1 min 43 s: start 41 s, learning 1 min 0 s, end 2.0 s"."""
    parts = ", ".join(f"{name} {lasting(seconds)}" for name, seconds in summary.get("phases", {}).items())
    return lasting(summary["wall_seconds"]) + (f": {parts}" if parts else "")


def _latency(latency: Mapping[str, float]) -> str:
    """ "median 0.4 ms, 99 % within 1.2 ms, longest 5 ms; 20 samples came before the run had caught up"."""
    told = []
    if "median_ms" in latency:
        each = (latency["median_ms"], latency["p99_ms"], latency["longest_ms"])
        told.append("median {:.3g} ms, 99 % within {:.3g} ms, longest {:.3g} ms".format(*each))
    if early := latency.get("samples_before_caught_up"):
        told.append(f"{early:,} samples came before the run had caught up")
    return "; ".join(told)


def _restart(restart: Mapping[str, Any]) -> str:
    """ "from tick 1,200 in 1.2 s, 40 ticks again: actor 1 was lost at about tick 1,240: it died"."""
    back = f"from tick {restart['tick']:,} in {lasting(restart['seconds']['all'])}"
    return f"{back}, {restart['replayed_ticks']:,} ticks again: {restart['cause']}"


def _shares(percent: Mapping[str, float]) -> str:
    """ "compute 61 %, wait 30 %, other 9 %": the kinds that came up, the largest share first."""
    largest = sorted(percent.items(), key=lambda share: -share[1])
    return ", ".join(f"{kind} {share:.0f} %" for kind, share in largest if share >= 0.5)


def _metrics(metrics: Mapping[str, float] | None) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()) if metrics else "none"


def _table(title: str, left: Sequence[str], right: Sequence[str], middle: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for heading in (*left, *middle):
        table.add_column(heading)
    for heading in right:
        table.add_column(heading, justify="right")
    return table


def _shape(shape: Any) -> str:
    """ "1×8×8" for one shape, "64 + 64" for several, "?" for one that is not known."""
    if shape is None:
        return "?"
    if any(not isinstance(size, int) for size in shape):
        return " + ".join(map(_shape, shape))
    return "×".join(map(str, shape)) or "1"
