"""The losses of the `network` section."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from hamdist.config.types import LayerReference, Positive, Section, Text, Whole
from hamdist.errors import did_you_mean

LOSSES = ("cross_entropy", "mse", "l1", "huber", "bce_with_logits", "nll")


def _loss_type(name: str) -> str:
    if name in LOSSES or ":" in name:
        return name
    hint = did_you_mean(name, LOSSES)
    raise ValueError(
        f"{name!r} is not a loss{hint} (accepted: {', '.join(LOSSES)}, or 'package.module:function')"
    )


class LossConfig(Section):
    """A loss, the layer whose output it judges, and its weight in the sum."""

    type: Annotated[Text, AfterValidator(_loss_type)] = Field(
        description="`cross_entropy`, `mse`, `l1`, `huber`, `bce_with_logits`, `nll`, or `package.module:function`."
    )
    layer: LayerReference | None = Field(
        default=None, description="Name or index of the layer; `null`: the last listed."
    )
    weight: Positive = Field(default=1.0, description="Its weight in the sum of losses.")
    class_dim: Whole | None = Field(
        default=None,
        description="Of `cross_entropy`, the dimension of the output along which the classes lie: −1 for an output"
        " [B, T, classes] with targets [B, T]; `null`: 1, as in torch.",
    )

    @field_validator("class_dim")
    @classmethod
    def _only_for_classes(cls, dim: int | None, info: ValidationInfo) -> int | None:
        if dim == 0:
            raise ValueError("0 is the rows of a batch: classes lie along another dimension, such as 1 or -1")
        if dim is not None and info.data.get("type", "cross_entropy") != "cross_entropy":
            raise ValueError(f"only cross_entropy has one, not {info.data['type']}")
        return dim


def listed_losses(value: Any) -> Any:
    """A name or a mapping becomes a list of one; a name in the list becomes a mapping."""
    losses = value if isinstance(value, list | tuple) else [value]
    return [{"type": loss} if isinstance(loss, str) else loss for loss in losses]
