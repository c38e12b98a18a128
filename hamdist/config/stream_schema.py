"""The `stream` section: where samples come from, one model per source."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator

from hamdist.config.types import (
    Arguments,
    Column,
    Count,
    FilePath,
    Flag,
    Fraction,
    ImportPath,
    Label,
    Number,
    Positive,
    Section,
    Text,
    WholeOrZero,
)


class StreamBase(Section):
    """What every stream has."""

    source: str
    batch_size: Count = Field(default=1, description="Samples presented together, at one tick.")
    samples: Count | None = Field(
        default=None,
        description="How many samples to learn from; digits, arrays and torch datasets start again at their end."
        " `null`: all there are, once.",
    )
    hold: Count = Field(default=1, description="Ticks each batch is presented for.")
    missing_target: Literal["refuse", "predict"] = Field(
        default="refuse",
        description="What a sample is whose target is missing: a mistake, or one to predict and not to learn from.",
    )
    standardise: Flag = Field(
        default=False,
        description="Shift and scale each feature by its running mean and variance, learnt online.",
    )


class DigitsStream(StreamBase):
    source: Literal["digits"] = Field(
        description="The 1,797 handwritten 8×8 digits that scikit-learn has, too; they come with hamdist."
    )
    shuffle: Flag = Field(default=True, description="Draw a new order, from the seed, for every pass.")
    holdout: Fraction = Field(default=0.2, description="Share of the samples kept aside to evaluate on.")
    flat: Flag = Field(default=True, description="Inputs of 64 numbers; `false`: images of 1×8×8.")


class SinesConfig(Section):
    """A sum of sines."""

    sines: tuple[tuple[Number, Positive], ...] = Field(
        min_length=1, description="Pairs `[amplitude, frequency]`, summed: Σ amplitude · sin(2π frequency t)."
    )


class SquareWave(Section):
    """The shape of one square wave."""

    amplitude: Number = Field(description="Height above and below zero.")
    frequency: Positive = Field(description="Periods per unit of time.")


class SquareConfig(Section):
    """A square wave."""

    square: SquareWave = Field(description="A square wave: `{amplitude, frequency}`.")


def _kind_of_signal(value: Any) -> str:
    if isinstance(value, str):
        return "a name"
    return "a square" if isinstance(value, SquareConfig) or "square" in value else "sines"


def _signals(value: Any) -> Any:
    """One signal becomes a list of one."""
    signals = value if isinstance(value, list | tuple) else [value]
    for signal in signals:
        if not isinstance(signal, str | dict | Section):
            raise ValueError(f"expected the name of a signal, {{sines: …}} or {{square: …}}, got {signal!r}")
    return signals


Signal = Annotated[
    Annotated[Text, Tag("a name")]
    | Annotated[SinesConfig, Tag("sines")]
    | Annotated[SquareConfig, Tag("a square")],
    Discriminator(_kind_of_signal),
]


class SignalsStream(StreamBase):
    source: Literal["signals"] = Field(description="Signals over time, to be predicted from their own past.")
    signal: Annotated[tuple[Signal, ...], BeforeValidator(_signals)] = Field(
        min_length=1,
        description="A signal of the signal school by name (`smoHfHa`, …, `squLfLa`), `{sines: …}`, `{square: …}`,"
        " or a list of these: one channel each.",
    )
    step: Positive = Field(default=0.1, description="Time between two samples.")
    window: Count = Field(default=1, description="How many values, the present one last, make an input.")
    ahead: WholeOrZero = Field(default=1, description="How many samples ahead the target lies.")


class LecturesStream(StreamBase):
    source: Literal["lectures"] = Field(
        description="The signal school: signals to be brought forth from their descriptions, and exams on them."
    )
    signals: tuple[Text, ...] = Field(
        default=("smoHfHa", "smoHfLa", "smoLfHa", "smoLfLa", "squHfHa", "squHfLa", "squLfHa"),
        min_length=1,
        description="Names of the signals to teach, in this order.",
    )
    exams: tuple[Text, ...] = Field(
        default=("smoHfHa", "smoHfLa", "smoLfHa", "smoLfLa", "squHfHa", "squHfLa", "squLfHa", "squLfLa"),
        description="Names of the signals of the hold-out.",
    )
    rounds: Count = Field(default=3, description="How often a signal is told before the next one.")
    length: Count = Field(default=1000, description="Samples in a round, and in an exam.")
    cycles: Count = Field(default=1, description="How often the whole curriculum is gone through.")
    step: Positive = Field(default=0.1, description="Time between two samples.")


class ArraysStream(StreamBase):
    source: Literal["arrays"] = Field(
        description="NumPy arrays on disk; an `.npy` file is mapped into memory."
    )
    inputs: FilePath = Field(description="An `.npy` or `.npz` file; the first axis counts samples.")
    targets: FilePath | None = Field(
        default=None,
        description="An `.npy` or `.npz` file; `null`: in the `.npz` file of the inputs, and none with an `.npy` file.",
    )
    inputs_key: Text = Field(default="x", description="Name of the inputs inside an `.npz` file.")
    targets_key: Text = Field(default="y", description="Name of the targets inside an `.npz` file.")
    shuffle: Flag = Field(default=False, description="Draw a new order, from the seed, for every pass.")
    holdout: Fraction = Field(default=0.0, description="Share of the samples kept aside to evaluate on.")


class TableStream(StreamBase):
    """What the two kinds of table have in common."""

    path: FilePath = Field(description="The file.")
    target: Column = Field(description="Name of the column to predict.")
    features: tuple[Column, ...] | None = Field(
        default=None,
        min_length=1,
        description="Names of the input columns; `null`: every column but the target.",
    )
    kind: Literal["class", "number"] = Field(default="class", description="What the target is.")
    classes: tuple[Label, ...] | None = Field(
        default=None,
        min_length=2,
        description="The classes, in the order of the outputs; `null`: in the order of first appearance.",
    )

    @field_validator("classes")
    @classmethod
    def _only_for_classes(cls, classes: tuple[Label, ...] | None, info: ValidationInfo) -> Any:
        if classes is not None and info.data.get("kind") == "number":
            raise ValueError("a target of kind 'number' has no classes: remove them, or set kind: class")
        return classes


class CsvStream(TableStream):
    source: Literal["csv"] = Field(description="A text file of values, a sample a line, such as CSV.")
    header: Flag = Field(
        default=True, description="The first line names the columns; `false`: they are called 0, 1, 2, …"
    )
    delimiter: str = Field(
        default=",", min_length=1, max_length=1, description="The character between two values."
    )


class ParquetStream(TableStream):
    source: Literal["parquet"] = Field(description="A Parquet file; needs `hamdist[parquet]`.")


class RiverStream(StreamBase):
    source: Literal["river"] = Field(description="A dataset or generator of River; needs `hamdist[river]`.")
    dataset: Text = Field(description="A class of `river.datasets`, such as `Phishing` or `synth.Agrawal`.")
    args: Arguments = Field(default={}, description="Keyword arguments for the class.")
    features: tuple[Text, ...] | None = Field(
        default=None, min_length=1, description="Names of the features to use, in this order; `null`: all."
    )


class TorchStream(StreamBase):
    source: Literal["torch"] = Field(description="A PyTorch Dataset, IterableDataset or DataLoader.")
    factory: ImportPath = Field(description="`package.module:name` of what makes it.")
    args: Arguments = Field(default={}, description="Keyword arguments for the factory.")
    shuffle: Flag = Field(default=False, description="Draw a new order, from the seed, for every pass.")


class IterableStream(StreamBase):
    source: Literal["iterable"] = Field(description="Any Python iterable.")
    factory: ImportPath = Field(description="`package.module:name` of what makes it.")
    args: Arguments = Field(default={}, description="Keyword arguments for the factory.")


class StdinStream(StreamBase):
    source: Literal["stdin"] = Field(description="JSON lines from standard input, endless.")


Stream = (
    DigitsStream
    | SignalsStream
    | LecturesStream
    | ArraysStream
    | CsvStream
    | ParquetStream
    | RiverStream
    | TorchStream
    | IterableStream
    | StdinStream
)
StreamConfig = Annotated[Stream, Field(discriminator="source")]
