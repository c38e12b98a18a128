"""Factories named in a config."""

import re
import sys

import pytest

from hamdist.errors import StreamError
from hamdist.streams.factory import bind_factory, load_factory

MODULE = '''
"""A module of the user's."""

setting = 3

def make_pairs(rows, scale=1.0):
    return rows, scale
'''


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "data.py").write_text(MODULE)
    (package / "broken.py").write_text("1 / 0")
    (package / "needy.py").write_text("import a_package_that_is_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "their_package"]:
        del sys.modules[name]


def test_the_function_that_is_named():
    assert load_factory("their_package.data:make_pairs")(2) == (2, 1.0)


def test_arguments_are_bound_and_every_call_makes_anew():
    make = bind_factory("their_package.data:make_pairs", {"rows": 5, "scale": 2.0})
    assert make() == (5, 2.0)
    assert make() is not make()


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("their_package.data", "'their_package.data' is not of the form 'package.module:name'"),
        (":make_pairs", "':make_pairs' is not of the form 'package.module:name'"),
        ("their_package.data:", "'their_package.data:' is not of the form 'package.module:name'"),
        (
            "their_packge.data:make_pairs",
            "there is no module 'their_packge'; is the folder that holds it on PYTHONPATH?",
        ),
        (
            "their_package.dta:make_pairs",
            "there is no module 'their_package.dta'; is the folder that holds it on PYTHONPATH?",
        ),
        (
            "their_package.data:make_pair",
            "the module 'their_package.data' has no 'make_pair'; did you mean 'make_pairs'?",
        ),
        (
            "their_package.data:setting",
            "'their_package.data:setting' is of type int; expected a function or a class",
        ),
        (
            "their_package.broken:x",
            "the module 'their_package.broken' cannot be imported: ZeroDivisionError('division by zero')",
        ),
        (
            "their_package.needy:x",
            "the module 'their_package.needy' cannot be imported: No module named 'a_package_that_is_not_there'",
        ),
    ],
)
def test_errors(factory, message):
    with pytest.raises(StreamError, match=f"^factory: {re.escape(message)}$"):
        load_factory(factory)


def test_arguments_it_does_not_take():
    with pytest.raises(StreamError) as caught:
        bind_factory("their_package.data:make_pairs", {"row": 5})
    assert str(caught.value) == (
        "args: their_package.data:make_pairs takes (rows, scale=1.0): missing a required argument: 'rows'"
    )
