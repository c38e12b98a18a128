"""What an actor is told at its start, and what it tells at its end; all of it travels between processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hamdist.errors import RunError, UserError
from hamdist.network.network import LayerSpec
from hamdist.report.profile import Profile
from hamdist.runtime.ledger import Ledger
from hamdist.runtime.links.contract import LinkError
from hamdist.runtime.outline import Outline
from hamdist.runtime.windows import Window


@dataclass(frozen=True)
class Share:
    """One actor's part of a run. It builds `layers` and knows of the others only what `outline` says.

    actor: its number.  name: what errors call it.  device: as in placement.device.  threads: within one operation.
    metrics_every: samples between two windows of metrics.  profile: whether to record where its time goes.
    """

    actor: int
    name: str
    outline: Outline
    layers: tuple[LayerSpec, ...]
    device: str = "cpu"
    threads: int = 1
    metrics_every: int = 1000
    profile: bool = False


@dataclass(frozen=True)
class Spent:
    """Where an actor's time went: seconds in all, waiting for neighbours, and handing frames to the links."""

    seconds: float = 0.0
    wait_seconds: float = 0.0
    send_seconds: float = 0.0

    def told(self) -> dict[str, float]:
        """As the summary tells it."""
        return {
            "seconds": round(self.seconds, 3),
            "wait_seconds": round(self.wait_seconds, 3),
            "send_seconds": round(self.send_seconds, 3),
        }


@dataclass(frozen=True)
class Outcome:
    """How an actor's part ended.

    ticks: how many it did.  error: what stopped it, None at the regular end or when it was stopped.  details: the
    error's traceback.  ledgers, energies: by layer.  scores: of a loss, by node: prequential and hold-out means.
    profile: if one was wanted.
    """

    actor: int
    ticks: int
    error: Exception | None = None
    details: str = ""
    ledgers: Mapping[str, Ledger] = field(default_factory=dict)
    energies: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    prequential: Mapping[str, dict[str, float]] = field(default_factory=dict)
    holdout: Mapping[str, dict[str, float]] = field(default_factory=dict)
    windows: tuple[Window, ...] = ()
    spent: Spent = Spent()
    peak_memory_bytes: int = 0
    execution: Mapping[str, Any] = field(default_factory=dict)
    profile: Profile | None = None


def attributed(error: Exception, name: str, tick: int) -> Exception:
    """What stopped an actor, as its outcome tells it: with its name and the tick, unless the error has its own."""
    if isinstance(error, LinkError):
        return type(error)(f"{name} at tick {tick}: {error}")
    if isinstance(error, RunError | UserError):
        return error
    return RunError(f"{name} failed at tick {tick}: {error!r}")


@dataclass(frozen=True)
class StreamOutcome:
    """How the stream ended.

    samples: how many entered.  entered_ticks: in which they did.  ticks: of learning, drain included.
    error: what the stream raised; what had entered before was learnt all the same.
    """

    samples: int
    entered_ticks: int
    ticks: int
    error: Exception | None = None
    details: str = ""
    peak_memory_bytes: int = 0
    profile: Profile | None = None


@dataclass(frozen=True)
class Progress:
    """How far an actor is.

    samples: that have entered, of the stream.  entered_ticks: in which they did, once nothing more enters to be learnt.
    windows: of metrics, closed since the last time.
    """

    ticks: int
    samples: int = 0
    entered_ticks: int | None = None
    windows: tuple[Window, ...] = ()
