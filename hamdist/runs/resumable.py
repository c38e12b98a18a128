"""What of a config may change when a run goes on, and what may not."""

from collections.abc import Iterator, Mapping
from typing import Any

from hamdist.config.problems import shown
from hamdist.config.schema import RunConfig

MAY_CHANGE = (
    "name",
    "placement",
    "checkpoint",
    "recovery",
    "on_bad",
    "rollback",
    "metrics_every",
    "learning.beta",
)
"""Keys, with all that is below them. Beside these, `stream.samples` may grow, or become null."""


def fixed(config: RunConfig) -> dict[str, Any]:
    """What must stay as it is, by dotted key, as JSON has it; and `stream.samples`, which may not shrink."""
    flat = dict(_flat(config.model_dump(mode="json", by_alias=True)))
    return {key: value for key, value in flat.items() if not _may_change(key)}


def _may_change(key: str) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in MAY_CHANGE)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys that have changed and may not, each with both values."""
    keys = dict.fromkeys((*before, *now))
    return [
        (
            key,
            f"was {shown(before.get(key))} and is {shown(now.get(key))} now, but a run that goes on keeps it",
        )
        for key in keys
        if before.get(key) != now.get(key) and not _grows(key, before.get(key), now.get(key))
    ]


def _grows(key: str, before: Any, now: Any) -> bool:
    return key == "stream.samples" and (now is None or (before is not None and now >= before))


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by their dotted keys; what is null counts as not there."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{key}.{index}")
    elif value is not None:
        yield key, value
