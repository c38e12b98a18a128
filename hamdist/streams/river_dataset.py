"""River's datasets and generators, which present one sample after the other by design."""

import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hamdist.errors import StreamError, did_you_mean
from hamdist.streams.batching import in_batches
from hamdist.streams.labels import Labels
from hamdist.streams.listing import listed
from hamdist.streams.missing import CHOICES, is_missing
from hamdist.streams.position import Counted, Reading
from hamdist.streams.river_names import make_dataset
from hamdist.streams.sample import Sample
from hamdist.streams.settings import at_most, check_choice, check_counts
from hamdist.streams.stream import Batch

REMEDY = (
    "Choose other features with `features: [...]`, or transform them in Python and use the source iterable"
)


class River(Counted):
    """A dataset of river.datasets, "Phishing", or a generator of river.datasets.synth, "synth.Agrawal".

    Features become a vector [R, features] in the order of the first sample's keys, False and True 0 and 1. A
    target that is a whole number or a boolean is a class, one that is a string a class in the order of first
    appearance; a regression's target is a number [R, 1], and several targets a vector [R, targets].

    dataset:  the name, or the dataset itself
    args:     its arguments; a generator's seed is `seed` unless it is among them
    features: the features to use, in this order; None: all
    """

    def __init__(
        self,
        dataset: Any,
        args: Mapping[str, Any] | None = None,
        features: Sequence[Any] | None = None,
        batch_size: int = 1,
        samples: int | None = None,
        seed: int = 0,
        missing_target: str = "refuse",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_counts(batch_size=batch_size, samples=samples, seed=seed)
        check_choice("missing_target", missing_target, CHOICES)
        self._missing_target = missing_target
        if isinstance(dataset, str):
            dataset = make_dataset(dataset, args or {}, seed)
        self._dataset = dataset
        self._features = features
        self._batch_size, self._dtype = batch_size, dtype
        self._name = f"River's {type(dataset).__name__}"
        task = str(getattr(dataset, "task", ""))
        self._regression = "regression" in task.lower()
        self._classifies = "classification" in task.lower()
        self._labels = Labels()
        self.samples = at_most(samples, _length(dataset))
        self.classes = 2 if task == "Binary classification" else getattr(dataset, "n_classes", None)

    @property
    def available(self) -> int | None:
        return _length(self._dataset)

    @property
    def seeks(self) -> bool:
        return not isinstance(self._dataset, Iterator)

    def _after(self, start: Reading) -> Iterator[tuple[Batch | None, Reading]]:
        first = start.taken if self.seeks else 0
        samples = self._single_samples(first)
        return in_batches(
            samples, self._batch_size, self.samples, self._dtype, self._missing_target, start, self.skips
        )

    def _facts(self) -> dict[str, Any]:
        return {"dataset": self._name}

    def _more(self) -> dict[str, Any]:
        return {"labels": self._labels.state_dict()}

    def _load_more(self, state: Mapping[str, Any]) -> None:
        self._labels.load_state_dict(state["labels"])

    def _single_samples(self, first: int) -> Iterator[Sample]:
        """From this one on; those before are gone through, for the keys of the first one of all."""
        keys: list[Any] | None = None
        for number, (features, target) in enumerate(read(self._dataset, self._name)):
            where = f"{self._name}: sample {number}"
            require_mapping(features, where)
            keys = keys or chosen_keys(features, self._features)
            if number < first:
                continue
            if self._features is None:
                refuse_new_features(features, keys, where)
            vector = torch.tensor([feature(features, key, where) for key in keys], dtype=self._dtype)
            told = self._target(target, where)
            yield Sample(vector, told, self._name, missing=told is None)

    def _target(self, target: Any, where: str) -> Tensor | None:
        if is_missing(list(target.values()) if isinstance(target, Mapping) else target):
            return None
        if isinstance(target, str):
            return torch.tensor(self._labels.number(target, where))
        if isinstance(target, Mapping):
            parts = [real(part, f"{where}: the target {key!r}") for key, part in target.items()]
            return torch.tensor(parts, dtype=self._dtype)
        if not self._regression and is_class(target, self._classifies):
            return torch.tensor(int(target))
        return torch.tensor(real(target, f"{where}: the target"), dtype=self._dtype)


def read(dataset: Any, name: str) -> Iterator[tuple[Any, Any]]:
    """The dataset's pairs of features and target; River downloads some datasets when they are first read."""
    try:
        yield from dataset
    except OSError as error:
        raise StreamError(f"{name} cannot be read or downloaded: {error}") from error


def require_mapping(features: Any, where: str) -> None:
    """River presents most features by name; text, for one, comes without."""
    if not isinstance(features, Mapping):
        raise StreamError(
            f"{where} is a {type(features).__name__}; expected features by name, all of them numbers. {REMEDY}"
        )


def chosen_keys(features: Mapping[Any, Any], chosen: Sequence[Any] | None) -> list[Any]:
    """The keys of the features to use; a config may write the key 0 of a generator as "0"."""
    by_text = {str(key): key for key in features}
    return list(features) if chosen is None else [by_text.get(str(key), key) for key in chosen]


def refuse_new_features(features: Mapping[Any, Any], keys: Sequence[Any], where: str) -> None:
    """A feature that the first sample did not have has no place in the vector."""
    if len(features) > len(keys):
        new = [key for key in features if key not in keys]
        raise StreamError(f"{where} has a feature the first one did not have: {listed(new)}. {REMEDY}")


def feature(features: Mapping[Any, Any], key: Any, where: str) -> float:
    """One feature of a sample as a number."""
    if key not in features:
        hint = did_you_mean(key, features)
        raise StreamError(f"{where} has no feature {key!r}; it has {listed(features)}{hint}")
    return real(features[key], f"{where}: the feature {key!r}")


def real(value: Any, what: str) -> float:
    """A number or a boolean as a number; `what` opens the message of the StreamError for anything else."""
    if not isinstance(value, numbers.Real | np.bool_):
        found = f"the {type(value).__name__} {value!r}"
        raise StreamError(f"{what} is {found}; expected a number or a boolean. {REMEDY}")
    return float(value)


def is_class(target: Any, classifies: bool) -> bool:
    """Whether a target is a whole number; of a dataset for classification also as 1.0."""
    if isinstance(target, numbers.Integral | np.bool_):
        return True
    return classifies and isinstance(target, numbers.Real) and float(target).is_integer()


def _length(dataset: Any) -> int | None:
    """How many samples there are, where it is certain: River only quotes the length of what it has yet to download."""
    return None if hasattr(dataset, "is_downloaded") else getattr(dataset, "n_samples", None)
