"""`check` and `run` on actors that do not fit the layers, whatever the runtime; nothing is started for it."""

from pathlib import Path
from typing import Any

import pytest

from hamdist import check, run
from hamdist.errors import UserError

LINEAR = {"type": "Linear", "in_features": 64, "out_features": 64}


def config(**placement: Any) -> dict[str, Any]:
    layers = [{"name": name, "modules": [LINEAR]} for name in ("a", "b")]
    network = {"loss": "cross_entropy", "layers": layers}
    return {"name": "x", "stream": {"source": "digits"}, "network": network, "placement": placement}


@pytest.mark.parametrize("runtime", ["inline", "ray"])
@pytest.mark.parametrize(
    ("placement", "message"),
    [
        ({"actors": 9}, "placement.actors: 9 actors, but only 2 layers: every actor hosts one at least"),
        ({"actors": [["a"]]}, "placement.actors: layer 'b' is on no actor: every layer needs one"),
        ({"actors": [["a", "b"], [1]]}, "placement.actors: layer 'b' is listed twice: it lives on one actor"),
        ({"actors": [["a", "b", "x"]]}, "placement.actors: there is no layer 'x'; the layers are a, b"),
        (
            {"actors": "per-layer", "requests": {"c": {"cpus": 1}}},
            "placement.requests.c: no layer is called 'c'; the layers are a, b",
        ),
    ],
)
def test_actors_that_do_not_fit(placement: dict[str, Any], message: str, runtime: str, folder: Path) -> None:
    odd = config(runtime=runtime, **placement)
    assert check(odd) == [message]
    with pytest.raises(UserError) as refused:
        run(odd, out="out")
    assert str(refused.value) == message
    assert not (folder / "out").exists()


@pytest.mark.parametrize("actors", [1, 2, "auto", "per-layer", [["b", 0]], [[1], ["a"]]])
def test_actors_that_fit(actors: Any) -> None:
    assert check(config(actors=actors)) == []
