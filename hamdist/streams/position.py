"""Where a source is: what a state of it holds, and the sources that count what they hand out."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from hamdist.errors import Problem, StreamError
from hamdist.streams.form import SampleForm, form_told, told_form
from hamdist.streams.stream import Batch, Stream


class Reading(NamedTuple):
    """taken: samples that the source has given.  form: of those, once it is known, of single samples.  skipped: how
    many were left out, by what in them is not finite.
    """

    taken: int = 0
    form: SampleForm | None = None
    skipped: Mapping[str, int] = {}


class Counted(Stream):
    """A source that says where it is, and goes on there.

    skips: whether samples that are not finite are left out where they come one by one.
    """

    reading = Reading()
    skips = False
    _loaded = False

    @property
    def seeks(self) -> bool:
        return True

    @property
    def taken(self) -> int:
        return self.reading.taken

    @property
    def skipped(self) -> Mapping[str, int]:
        return self.reading.skipped

    def __iter__(self) -> Iterator[Batch]:
        start, self._loaded = self.reading if self._loaded else Reading(), False
        self.reading = start
        return self._handed(self._after(start))

    @abstractmethod
    def _after(self, start: Reading) -> Iterator[tuple[Batch | None, Reading]]:
        """The batches that follow, and where each of them ends, or what was left out after the last."""

    def _facts(self) -> dict[str, Any]:
        """What must be the same, so that a number of samples is a position."""
        return {}

    def _more(self) -> dict[str, Any]:
        """What else a position is."""
        return {}

    def _load_more(self, state: Mapping[str, Any]) -> None:
        """Takes what `_more` gave. Raises StreamError, KeyError, TypeError and ValueError for anything else."""

    def _handed(self, read: Iterator[tuple[Batch | None, Reading]]) -> Iterator[Batch]:
        for batch, self.reading in read:
            if batch is not None:
                yield batch

    def state_dict(self) -> dict[str, Any]:
        taken, form, skipped = self.reading
        told = {"source": type(self).__name__, "samples": taken, "skipped": skipped, "form": form_told(form)}
        return {**told, **self._facts(), **self._more()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with_facts = {"source": type(self).__name__, **self._facts()}
        check_state(state, self.state_dict(), with_facts)
        with state_of(type(self).__name__):
            reading = Reading(count(state["samples"]), told_form(state["form"]), counts(state["skipped"]))
            if self.samples is not None and reading.taken > self.samples:
                raise refused(
                    f"it is after sample {reading.taken}, where the stream has {self.samples} samples"
                )
            self._load_more(state)
        self.reading, self._loaded = reading, True


@contextmanager
def state_of(source: str) -> Iterator[None]:
    """Within it whatever is odd about a state becomes a StreamError."""
    try:
        yield
    except StreamError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise refused(f"it is none of {source}: {type(error).__name__}: {error}") from error


def counted(batches: Iterable[Batch], start: Reading) -> Iterator[tuple[Batch | None, Reading]]:
    """Every batch of a source that gives whole ones, and where it ends."""
    taken = start.taken
    for batch in batches:
        taken += len(batch.inputs)
        yield batch, start._replace(taken=taken)


def check_state(state: Mapping[str, Any], like: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """StreamError unless it has the keys of another one, and these facts."""
    if not isinstance(state, Mapping):
        raise refused(f"it is a {type(state).__name__}, where a mapping is expected")
    for key, value in facts.items():
        if key in state and _plain(state[key]) != _plain(value):
            raise refused(f"its {key} is {_plain(state[key])!r}, and this stream's is {_plain(value)!r}")
    if missing := [key for key in like if key not in state]:
        raise refused(f"it has no {', '.join(missing)}")
    if strange := [str(key) for key in state if key not in like]:
        raise refused(f"it has {', '.join(strange)}, of which nothing is known here")


def count(value: Any) -> int:
    """A whole number that is not negative. Raises StreamError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise refused(f"a number of samples is {value!r}; expected a whole number of at least 0")
    return value


def counts(value: Any) -> dict[str, int]:
    """Whole numbers by name. Raises StreamError."""
    return {str(name): count(number) for name, number in dict(value).items()}


def refused(message: str) -> StreamError:
    """message: about a state."""
    return StreamError(Problem("state", message))


def _plain(value: Any) -> Any:
    """As it is after a file of JSON."""
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
