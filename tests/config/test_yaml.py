"""YAML 1.2: what its words mean, what it refuses, with the place, and that no text takes long."""

from pathlib import Path
from typing import Any

import pytest

from hamdist.config import load
from hamdist.config.composer import MOST_DEPTH, MOST_VALUES
from hamdist.config.document import dump, parse, read
from hamdist.config.overrides import split, unshared
from hamdist.errors import ConfigError

WORDS: list[tuple[str, Any]] = [
    *(
        (word, word)
        for word in ("no", "No", "NO", "yes", "Yes", "on", "On", "off", "OFF", "y", "n", "Y", "N")
    ),
    *((word, word) for word in ("1_000", "1_000.5", "12:30", "1:02:03.5", "190:20:30", "2020-01-01", "tRUE")),
    *((word, word) for word in ("0b1010", "0o8", "0xg", "1e", "e3", ".", "1.2.3", "+", "=", "nan", "inf")),
    *((word, None) for word in ("", "~", "null", "Null", "NULL")),
    *((word, True) for word in ("true", "True", "TRUE")),
    *((word, False) for word in ("false", "False", "FALSE")),
    ("0o17", 15),
    ("017", 17),
    ("08", 8),
    ("0xfF", 255),
    ("-7", -7),
    ("+7", 7),
    ("1e-3", 1e-3),
    ("1E3", 1e3),
    (".5", 0.5),
    ("2.", 2.0),
    ("-.inf", -float("inf")),
    ("!!str 1", "1"),
    ("! 1", "1"),
    ("!!float 1", 1.0),
    ("!!int 1", 1),
    ("!!int '1'", 1),
    ("!!null ''", None),
    ("!!map {a: 1}", {"a": 1}),
    ("'no'", "no"),
    ("'1'", "1"),
]


@pytest.mark.parametrize(("word", "meaning"), WORDS, ids=[word for word, _ in WORDS])
def test_words_are_those_of_the_core_schema(word: str, meaning: Any) -> None:
    for found in (parse(f"key: {word}", "x").data["key"], split(f"key={word}")[1] if word else None):
        assert (found, type(found)) == (meaning, type(meaning))


def test_text_is_written_so_that_it_is_read_as_text() -> None:
    """Also by readers of YAML 1.1, such as PyYAML."""
    import yaml

    data = {
        "words": [word for word, _ in WORDS]
        + ["<<", "a: b", "#", "é", "a\x85b\u2028", "\ufeff", "a\nb", "1e-3"]
    }
    data |= {
        "keys": {word: 1 for word, _ in WORDS},
        "numbers": [1e-300, 1e22, -0.0, 10**30, float("inf"), 0.1],
    }
    assert parse(dump(data), "x").data == data
    assert yaml.safe_load(dump(data))["words"] == data["words"]


REFUSED = [
    ("a: !!int abc", "x:1:4: !!int: expected a whole number, got 'abc'"),
    ("a: !!int 1_0", "x:1:4: !!int: expected a whole number, got '1_0'"),
    ("a: !!float x", "x:1:4: !!float: expected a number, got 'x'"),
    ("a: !!bool yes", "x:1:4: !!bool: expected true or false, got 'yes'"),
    ("a: !!null x", "x:1:4: !!null: expected nothing, got 'x'"),
    ("a: !!timestamp x", "x:1:4: the tag 'timestamp' is not known here"),
    ("a: !!binary x", "x:1:4: the tag 'binary' is not known here"),
    ("a: !!map x", "x:1:4: the tag 'map' is not known here"),
    ("a: !!python/name:os.system ''", "x:1:4: the tag 'python/name:os.system' is not known here"),
    (
        "a: !!python/object/apply:os.system [ls]",
        "x:1:4: the tag '!!python/object/apply:os.system' is not known",
    ),
    ("a: !!set {x}", "x:1:4: the tag '!!set' is not known here"),
    ("a: !!omap [x: 1]", "x:1:4: the tag '!!omap' is not known here"),
    ("a: !!int [1]", "x:1:4: the tag '!!int' is not known here"),
    ("a: !own x", "x:1:4: the tag '!own' is not known here"),
    ("a: *b", "x:1:4: there is no '&b' before this '*b'"),
    ("a: &b {c: [*b]}", "x:1:12: '&b' holds itself"),
    ("a: 1\nb:\n  - {c: 1, c: 2}", "x:3:12: b.0.c: the key is there already"),
    ("a: {<<: {b: 1}, <<: {b: 2}}", "x:1:17: a.<<: the key is there already"),
    ("a: {1: x, 0x1: y}", "x:1:11: a.0x1: the key is there already, otherwise written"),
    ("a: {true: x, 1: y}", "x:1:14: a.1: the key is there already, otherwise written"),
    ("- 1\n" * (MOST_VALUES + 1), f"x:{MOST_VALUES}:3: stands for more than {MOST_VALUES:,} values"),
    ("a: {<<: [1]}", "x:1:9: '<<' merges a mapping, or a list of mappings"),
    ("a: {<<: b}", "x:1:9: '<<' merges a mapping, or a list of mappings"),
    ("[a]: 1", "x:1:1: a key must be text"),
    ("? {a: 1}\n: 1", "x:1:3: a key must be text"),
    ("a: 1\nb: x\0y", "x:2:5: not YAML: the character '\\x00' is not allowed"),
    ("a: \ud800", "x:1:4: not YAML: the character '\\ud800' is not allowed"),
    ("a: " + "9" * 5000, "x:1:4: a number of 5000 characters; 1000 are accepted"),
    ("a: 0x" + "f" * 9**6, "x:1:4: a number of 531443 characters; 1000 are accepted"),
    ("[" * 10_000, f"x:1:{MOST_DEPTH + 1}: nested too deeply: more than {MOST_DEPTH} levels"),
    ("{" * 10_000, "x:1:2: a key must be text"),
    ("{a: " * 10_000, f"x:1:{4 * MOST_DEPTH + 1}: nested too deeply"),
    ("- " * 10_000, f"x:1:{2 * MOST_DEPTH + 1}: nested too deeply"),
    ("? " * 10_000, "x:1:3: a key must be text"),
    ("a: 'x", "x:1:6: not YAML: found unexpected end of stream"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text[:30] for text, _ in REFUSED])
def test_what_is_refused_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x")
    assert str(caught.value).startswith(message)


def aliases(levels: int, wide: int = 9, form: str = "[{}]", merge: str = "") -> str:
    """A list or mapping of which each level holds the one before several times."""
    lines = ["a0: &a0 {z: 1}"]
    for level in range(1, levels):
        inner = ", ".join(
            f"k{level}x{i}: *a{level - 1}" if ":" in form else f"*a{level - 1}" for i in range(wide)
        )
        lines.append(f"a{level}: &a{level} " + form.format(inner).replace(":", ":", 1))
    return "\n".join(lines) + merge


@pytest.mark.parametrize("form", ["[{}]", "{{k: 0, {} }}"], ids=["lists", "mappings"])
def test_aliases_count_as_what_they_stand_for(form: str) -> None:
    with pytest.raises(ConfigError, match=f"x:\\d+:\\d+: stands for more than {MOST_VALUES:,} values"):
        parse(aliases(9, form=form), "x")
    assert parse(aliases(4, form=form), "x").data["a3"] is not None


def test_merges_count_as_what_they_bring() -> None:
    lines = ["m0: &m0 {" + ", ".join(f"k{i}: [1, 2, 3]" for i in range(100)) + "}"]
    lines += [f"m{n}: &m{n} {{<<: *m{n - 1}, own: [*m{n - 1}, *m{n - 1}]}}" for n in range(1, 40)]
    with pytest.raises(ConfigError, match="stands for more than"):
        parse("\n".join(lines), "x")


def test_aliases_within_others_are_as_deep_as_what_they_stand_for() -> None:
    text = "\n".join(["a0: &a0 1", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200))])
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse(text, "x")


def test_merge_keys_bring_what_is_not_there() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 0}\nd: {<<: *a, w: 5}\ne: {'<<': 6}"
    data = parse(text, "x").data
    assert (data["c"], data["d"]) == ({"x": 0, "y": 2, "z": 4}, {"x": 1, "y": 2, "w": 5})
    assert data["e"] == {"<<": 6}


def test_every_part_is_its_own_and_knows_its_place() -> None:
    found = parse("a: &a {x: [1]}\nb: *a\n", "x")
    assert found.data["a"] == found.data["b"]
    assert found.data["a"]["x"] is not found.data["b"]["x"]
    assert found.marks == {
        "": "x:1:1",
        "a": "x:1:1",
        "a.x": "x:1:8",
        "a.x.0": "x:1:12",
        "b": "x:2:1",
        "b.x": "x:1:8",
        "b.x.0": "x:1:12",
    }


@pytest.mark.parametrize("text", ["[0]", "x", "3", "null", "# nothing", "---", "---\n...", "\ufeff"])
def test_what_is_no_mapping_is_no_config(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run\.yaml:\d+:\d+: expected a mapping with the keys name"):
        load(path)


def test_files_that_cannot_be_configs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder: name the file in it"):
        load(tmp_path)
    for strange in ("x" * 5000, "a\0b", "/dev/null/x", ""):
        with pytest.raises(ConfigError):
            load(strange)
    with pytest.raises(ConfigError, match="is no plain file"):
        load("/dev/zero")
    (tmp_path / "large.yaml").write_bytes(b"#" * (16 * 2**20 + 1))
    with pytest.raises(ConfigError, match=r"large\.yaml: has more than 16 MiB"):
        load(tmp_path / "large.yaml")
    (tmp_path / "odd.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"odd\.yaml: is not text in UTF-8"):
        read(tmp_path / "odd.yaml")


def test_mappings_from_python_have_the_same_bounds() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = [endless]
    with pytest.raises(ConfigError, match="holds itself, or is nested more than"):
        load(endless)
    many: Any = 1
    for _ in range(8):
        many = [many] * 9
    with pytest.raises(ConfigError, match="stands for more than"):
        unshared({"a": many})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("seed=!!int x", "!!int: expected a whole number, got 'x'"),
        ("seed={a: 1, a: 2}", "a: the key is there already"),
        ("seed=a\0", "the character '\\x00' is not allowed"),
        ("seed=[", "expected the node content, but found '<stream end>'"),
    ],
)
def test_overrides_say_why_they_are_none(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("digits", [text])
    assert str(caught.value) == f"override {text}: the value is not YAML: {text[5:]}: {why}"
