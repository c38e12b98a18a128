"""Loads a config: a file, an example's name or a mapping, with overrides, into one typed and frozen object."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from hamdist.config.document import Document, dump, read
from hamdist.config.examples import names, path_of
from hamdist.config.learning_schema import LearningConfig
from hamdist.config.network_schema import NetworkConfig
from hamdist.config.overrides import apply
from hamdist.config.placement_schema import PlacementConfig
from hamdist.config.problems import problems_of
from hamdist.config.schema import LocalityConfig, RunConfig
from hamdist.errors import ConfigError, Problem, UserError, did_you_mean


@dataclass(frozen=True)
class LocatedProblem(Problem):
    """A problem that knows where its key was written; it reads "file.yaml:12:7: key.path: what is wrong"."""

    location: str = ""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.location, self.key, self.message)))


@dataclass(frozen=True)
class Loaded:
    """A config, and where each of its keys was written."""

    config: RunConfig
    marks: Mapping[str, str]

    def locate(self, key: str) -> str:
        """Where `key` was written, or the nearest key above it: "file.yaml:12:7" or "override key.path=value".

        Items of a list go by index: "network.layers.2.modules.0.type". "" where the config came from Python.
        """
        return _locate(self.marks, key)

    def explain(self, error: UserError) -> list[str]:
        """A line for each problem of an error that came up later, its place before it."""
        return _explain(error, self.marks)


def load(config: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Loaded:
    """The config in a file, in a mapping, or in the example of that name, with "key.path=value" `overrides` in it.

    Raises ConfigError with everything that is wrong with it; its problems are `LocatedProblem`s.
    """
    document = apply(_document(config), overrides)
    try:
        return Loaded(RunConfig.model_validate(document.data), document.marks)
    except ValidationError as error:
        problems = problems_of(error, RunConfig, document.data)
        raise ConfigError(*(_located(problem, document.marks) for problem in problems)) from None


_SECTIONS = ("seed", "stream", "network", "locality", "learning", "placement")


@dataclass(frozen=True)
class Sections:
    """The sections of a config that are sound by themselves, defaults among them; None where one is not.

    problems: what the schema found wrong with the others.  whole: the config, where there are none.
    """

    problems: Sequence[Problem]
    marks: Mapping[str, str]
    whole: RunConfig | None = None
    seed: int | None = None
    stream: Any = None
    network: NetworkConfig | None = None
    locality: LocalityConfig | None = None
    learning: LearningConfig | None = None
    placement: PlacementConfig | None = None

    def explain(self, error: UserError) -> list[str]:
        """As that of `Loaded`."""
        return _explain(error, self.marks)


def load_sections(config: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Sections:
    """What is sound of a config that `load` might refuse. Raises ConfigError where there is no mapping to look at."""
    document = apply(_document(config), overrides)
    data, marks = document.data, document.marks
    try:
        whole = RunConfig.model_validate(data)
        return Sections((), marks, whole, **{name: getattr(whole, name) for name in _SECTIONS})
    except ValidationError as error:
        problems = [_located(problem, marks) for problem in problems_of(error, RunConfig, data)]
        unsound = {str(details["loc"][0]) for details in error.errors(include_url=False) if details["loc"]}
    sound = {name: _section(name, data) for name in _SECTIONS if name not in unsound}
    return Sections(problems, marks, **sound)


def _section(name: str, data: Mapping[str, Any]) -> Any:
    """One section of a config, by itself; its default where it is not there."""
    field = RunConfig.model_fields[name]
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
    return adapter.validate_python(data[name]) if name in data else field.get_default()


def resolved_yaml(config: RunConfig) -> str:
    """The config with every default in it, as YAML that loads to an equal config; keys that are null are left out."""
    return dump(config.model_dump(by_alias=True, exclude_none=True))


def _document(config: str | Path | Mapping[str, Any]) -> Document:
    if isinstance(config, Mapping):
        return Document(config)
    document = read(_file(Path(config)))
    if not isinstance(document.data, Mapping):
        where = _locate(document.marks, "")
        raise ConfigError(f"{where}: expected a mapping with the keys {', '.join(RunConfig.model_fields)}")
    return document


def _file(path: Path) -> Path:
    """The file itself, or the example of that name."""
    if _is(path, Path.is_file):
        return path
    if _is(path, Path.is_dir):
        raise ConfigError(f"{path} is a folder: name the file in it, such as {path / 'config.yaml'}")
    if _is(path, Path.exists):
        raise ConfigError(f"{path} is no plain file")
    if len(path.parts) == 1 and not path.suffix and path.name in names():
        return path_of(path.name)
    hint = did_you_mean(path.stem, names())
    listed = ", ".join(names())
    raise ConfigError(
        f"{path}: there is no such file, and no example of that name{hint} (examples: {listed})"
    )


def _is(path: Path, what: Callable[[Path], bool]) -> bool:
    """A name that no file can have is that of none."""
    try:
        return what(path)
    except (OSError, ValueError):
        return False


def _locate(marks: Mapping[str, str], key: str) -> str:
    while key and key not in marks:
        key = key.rpartition(".")[0]
    return marks.get(key, "")


def _explain(error: UserError, marks: Mapping[str, str]) -> list[str]:
    return [str(_located(problem, marks)) for problem in error.problems]


def _located(problem: Problem, marks: Mapping[str, str]) -> Problem:
    if not problem.key or isinstance(problem, LocatedProblem):
        return problem
    return LocatedProblem(problem.key, problem.message, _locate(marks, problem.key))
