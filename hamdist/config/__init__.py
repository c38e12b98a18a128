"""The config of a run: YAML, or a mapping, into one frozen object, and every mistake in it with its place.

schema.py and its *_schema.py     the sections, their keys, defaults and checks
types.py                          the value types they are made of
document.py                       YAML with positions; composer.py: its bounds; scalars.py: what its words mean
overrides.py                      "key.path=value"
examples.py                       the configs that travel with the package
problems.py, schema_walk.py       pydantic's errors in plain words
torch_words.py                    PyTorch's words for what has another name here
loader.py                         all of it together
"""

from hamdist.config.loader import Loaded, LocatedProblem, load, resolved_yaml
from hamdist.config.placement_schema import PlacementConfig
from hamdist.config.schema import LocalityConfig, RunConfig

__all__ = [
    "Loaded",
    "LocalityConfig",
    "LocatedProblem",
    "PlacementConfig",
    "RunConfig",
    "load",
    "resolved_yaml",
]
