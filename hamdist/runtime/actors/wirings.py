"""Which links join the actors of a run, and what each actor needs to make its own."""

from collections.abc import Sequence
from functools import partial

from hamdist.runtime.actors.layer_actor import Whereabouts
from hamdist.runtime.ends import Layout
from hamdist.runtime.links.contract import Patience
from hamdist.runtime.links.security import Station, fresh_keys
from hamdist.runtime.links.zeromq import ZeroMQWiring
from hamdist.runtime.rehearsal import MakeWiring

GENERATION = 0


def wirings_of(
    layout: Layout,
    places: Sequence[Whereabouts],
    link: str,
    patience: Patience,
    ports: tuple[int, int] | None,
) -> list[MakeWiring]:
    """What makes the links of every actor, by number, the stream's last."""
    return zeromq_wirings(layout, places, patience, ports)


def zeromq_wirings(
    layout: Layout, places: Sequence[Whereabouts], patience: Patience, ports: tuple[int, int] | None
) -> list[MakeWiring]:
    """ZeroMQ for every actor: its own keys, made for this run, and its neighbours' addresses and public keys only."""
    keys = [fresh_keys() for _ in places]
    stations = [
        Station(actor, place.host, pair.public)
        for actor, (place, pair) in enumerate(zip(places, keys, strict=True))
    ]
    return [
        partial(
            ZeroMQWiring,
            stations[actor],
            {end.peer: stations[end.peer] for end in layout.ends(actor)},
            keys[actor],
            GENERATION,
            patience,
            ports,
        )
        for actor in range(len(places))
    ]
