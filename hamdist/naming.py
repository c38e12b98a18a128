"""Names that become files: a run's, of its folder, and a layer's, of the file with its weights."""

import re
import unicodedata

LONGEST_RUN = 100  # characters
LONGEST_LAYER = 100

_MOST_BYTES = 200  # a file name has 255 at most, and something may be added to it
_NEVER = frozenset('/\\:*?"<>|')  # on one system or another
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # categories of Unicode: controls, breaks of lines
_JOINERS = frozenset("\u200c\u200d")  # within words and pictures
_WINDOWS_OWN = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(?:\.|\Z)", re.IGNORECASE
)


def run_name_problem(name: str) -> str:
    """What is wrong with a run's name, which becomes a folder on whatever system; "" where nothing is."""
    odd = [letter for letter in name if letter in _NEVER or _is_invisible(letter)]
    if odd:
        return (
            f"{odd[0]!r} cannot be part of a name, since a folder gets it (another place is given by --out)"
        )
    if name[0] in ".- " or name[-1] in ". ":
        return (
            f"a name begins with no '.', '-' or space, and ends with no '.' or space, but {_cut(name)!r} does"
        )
    if len(name) > LONGEST_RUN or len(name.encode()) > _MOST_BYTES:
        return f"at most {LONGEST_RUN} characters and {_MOST_BYTES} bytes make a name, not {len(name)} characters"
    return f"{name!r} is no name for a folder on Windows: choose another" if _WINDOWS_OWN.match(name) else ""


def layer_name_problem(name: str) -> str:
    """What is wrong with a layer's name, which becomes a file; "" where nothing is."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return f"a layer's name is made of letters, digits, '_' and '-', not {_cut(name)!r}"
    if name[0] == "-":
        return f"a layer's name does not begin with '-', as {_cut(name)!r} does"
    if len(name) > LONGEST_LAYER:
        return f"at most {LONGEST_LAYER} characters make a layer's name, not {len(name)}: {_cut(name)!r}"
    return ""


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) in _INVISIBLE and letter not in _JOINERS


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_LAYER else f"{name[:LONGEST_LAYER]}…"
