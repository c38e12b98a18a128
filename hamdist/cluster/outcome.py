"""What an actor reports, of its part of a run or of some ticks of it. It travels between processes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from hamdist.engine.device import peak_memory_bytes
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.ledger import Ledger
from hamdist.engine.loss_node import LossNode, Prediction
from hamdist.engine.profiler import SILENT, Timeline
from hamdist.errors import RunError, StreamError, StreamExitError, UserError, with_place
from hamdist.report.metrics import Window, Windows
from hamdist.report.profile import Profile
from hamdist.transport.base import LinkError


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
    error's traceback.  reached: by layer, the fewest and the most ticks that are in its weights.  ledgers, energies: by
    layer.  scores: of a loss, by node: prequential and hold-out means.  profile: if one was wanted.
    """

    actor: int
    ticks: int
    error: Exception | None = None
    details: str = ""
    reached: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    ledgers: Mapping[str, Ledger] = field(default_factory=dict)
    energies: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    prequential: Mapping[str, dict[str, float]] = field(default_factory=dict)
    holdout: Mapping[str, dict[str, float]] = field(default_factory=dict)
    windows: tuple[Window, ...] = ()
    spent: Spent = Spent()
    peak_memory_bytes: int = 0
    execution: Mapping[str, Any] = field(default_factory=dict)
    profile: Profile | None = None


class Ticking(Protocol):
    """Nodes at work, as a partition has them."""

    @property
    def tick(self) -> int: ...

    @property
    def reached(self) -> Mapping[str, tuple[int, int]]: ...

    @property
    def nodes(self) -> Mapping[str, LayerNode]: ...

    @property
    def losses(self) -> Mapping[str, LossNode]: ...

    @property
    def execution(self) -> dict[str, Any]: ...


def outcome_of(
    hosted: Ticking,
    actor: int = 0,
    spent: Spent | None = None,
    windows: Windows | None = None,
    timeline: Timeline = SILENT,
    failure: tuple[Exception | None, str] = (None, ""),
) -> Outcome:
    """What is to be told of nodes that have stopped.  failure: what stopped them, and its traceback."""
    if windows is not None:
        windows.close(hosted.tick)
    error, details = failure
    return Outcome(
        actor=actor,
        ticks=hosted.tick,
        error=error,
        details=details,
        reached=hosted.reached,
        ledgers={name: node.ledger for name, node in hosted.nodes.items()},
        energies={name: node.energies for name, node in hosted.nodes.items()},
        prequential={node: loss.prequential.total() for node, loss in hosted.losses.items()},
        holdout={node: loss.holdout.total() for node, loss in hosted.losses.items()},
        windows=() if windows is None else tuple(windows.take()),
        spent=spent or Spent(),
        peak_memory_bytes=peak_memory_bytes(),
        execution=hosted.execution,
        profile=timeline.profile(hosted.tick),
    )


def stream_failed(error: BaseException, samples: int) -> Exception:
    """What a stream's code raised after so many samples."""
    message = f"the stream failed after {samples} samples: {error!r}"
    failed = StreamError(message) if isinstance(error, Exception) else StreamExitError(message)
    failed.__cause__ = error
    return failed


@contextmanager
def stream_opening() -> Iterator[None]:
    """What a stream's code raises before its first batch, as `stream_failed` tells it."""
    try:
        yield
    except (UserError, RunError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise stream_failed(error, 0) from error


def harmless(error: BaseException, name: str, tick: int) -> Exception:
    """An error as it is, unless it would end the program."""
    if isinstance(error, Exception):
        return error
    failed = RunError(f"{name} failed at tick {tick}: {with_place(error)}")
    failed.__cause__ = error
    return failed


def attributed(error: BaseException, name: str, tick: int) -> Exception:
    """What stopped an actor, as its outcome tells it: with its name and the tick, unless the error has its own."""
    if isinstance(error, LinkError):
        return type(error)(f"{name} at tick {tick}: {error}")
    if isinstance(error, RunError | UserError):
        return error
    if not isinstance(error, Exception):
        return harmless(error, name, tick)
    return RunError(f"{name} failed at tick {tick}: {error!r}")


@dataclass(frozen=True)
class Advance:
    """What came of ticks that were released.

    ticks: done so far.  predictions: what left the network in those released last, where the first loss lives.
    error, details: as an outcome's.
    """

    ticks: int
    predictions: tuple[Prediction, ...] = ()
    error: Exception | None = None
    details: str = ""


@dataclass(frozen=True)
class StreamOutcome:
    """How the stream ended.

    samples: how many entered.  entered_ticks: in which they did.  ticks: of learning, drain included.
    error: what the stream raised; what had entered before was learnt all the same.  skipped: samples that were left out
    since they are not finite, by what that was.
    """

    samples: int
    entered_ticks: int
    ticks: int
    error: Exception | None = None
    details: str = ""
    peak_memory_bytes: int = 0
    profile: Profile | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far an actor is.

    samples: that have entered, of the stream.  entered_ticks: in which they did, once nothing more enters to be learnt.
    windows: of metrics, closed since the last time.  cuts: news of them since then: a worker's of its parts, the
    stream's of its own.  send_again: the sample from which a stream that cannot seek is to be sent again.
    """

    ticks: int
    samples: int = 0
    entered_ticks: int | None = None
    windows: tuple[Window, ...] = ()
    cuts: tuple[Any, ...] = ()
    send_again: int | None = None
