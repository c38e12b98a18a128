"""What of a run's weights is in its directory, in words: only what is true of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from hamdist.report.wording import listed


def saved(summary: Mapping[str, Any], layers: Sequence[str], tick: int = 0) -> str:
    """summary: of the run, with its directory.  layers: all of the network.  tick: of its newest checkpoint, if any."""
    told = _weights(summary, layers)
    return (
        f"{told}; go on from tick {tick} with: hamdist run --resume {summary['directory']}" if tick else told
    )


def _weights(summary: Mapping[str, Any], layers: Sequence[str]) -> str:
    there = [name for name in layers if name in summary["weights"]]
    lost = [name for name in layers if name not in there]
    if not there:
        return f"no weights could be saved; what was measured is in {summary['directory']}"
    if not lost:
        return f"the weights of all layers are in {summary['directory']}"
    return f"the weights of {listed(there)} are in {summary['directory']}, those of {listed(lost)} are lost"
