"""From actors that have made their layers to actors that can run: shapes and facts, who hosts what, links.

Every actor examines its own layers, upstream first; what travels for that are the first batch, and forms.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from hamdist.cluster.layout import Layout
from hamdist.cluster.worker_group import Company
from hamdist.engine.build import Examined
from hamdist.engine.message import Form
from hamdist.engine.spec import Outline
from hamdist.network.graph import SOURCE
from hamdist.network.reversible import check_some_reversible
from hamdist.network.survey import check_feedback, survey_order
from hamdist.transport.base import Wiring

MakeWiring = Callable[[], Wiring]


def survey_actors(
    company: Company,
    outline: Outline,
    hosts: Mapping[str, int],
    first_batch: tuple[Tensor, Tensor],
    seconds: float,
) -> dict[str, Form]:
    """The form of every layer's output. Raises NetworkError for whatever cannot run, as the survey in one process."""
    inputs, targets = first_batch
    graph = outline.graph
    found: dict[str, Examined] = {}
    for name in survey_order(graph):
        heard: dict[str, Tensor | Form] = {
            edge.source: inputs if edge.source == SOURCE else found[edge.source].output
            for edge in graph.into(name)
            if not edge.feedback
        }
        (found[name],) = company.all([hosts[name]], "examine", name, heard, seconds=seconds)
    outputs = {name: examined.output for name, examined in found.items()}
    for name, examined in found.items():
        check_feedback(graph, name, examined.inputs, {n: form.shape for n, form in outputs.items()})
    bearing = sorted({hosts[spec.layer] for spec in outline.losses.values()})
    company.all(bearing, "check_losses", targets, seconds=seconds)
    if outline.locality.pairing == "reversible":
        check_some_reversible(graph, any(examined.invertible for examined in found.values()))
    return outputs


def layout_of(
    outline: Outline,
    hosts: Mapping[str, int],
    names: Sequence[str],
    devices: Sequence[torch.device],
    outputs: Mapping[str, Form],
    first_batch: tuple[Tensor, Tensor],
) -> Layout:
    """names, devices: of every actor, the stream's last."""
    inputs, targets = first_batch
    return Layout(outline, hosts, tuple(names), tuple(devices), outputs, _form(inputs), _form(targets))


def wire(company: Company, layout: Layout, wirings: Sequence[MakeWiring], seconds: float) -> dict[int, str]:
    """Joins all actors; wirings: what makes each one's. Returns the addresses at which they listen, by edge."""
    everyone = range(len(wirings))
    tickets = [company.call(actor, "listen", layout, wirings[actor]) for actor in everyone]
    addresses: dict[int, str] = {}
    for found in company.answers(tickets, seconds):
        addresses |= found
    company.all(everyone, "connect", addresses, seconds=seconds)
    return addresses


def _form(tensor: Tensor) -> Form:
    return Form(tuple(tensor.shape), tensor.dtype)
