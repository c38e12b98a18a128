"""Names and sizes in a sentence."""

from collections.abc import Sequence


def listed(names: Sequence[str]) -> str:
    """ "a, b and c"; of many, the first three and how many more."""
    shown = [*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else list(names)
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def counted(count: int, name: str) -> str:
    """ "1 layer", "1,200 layers" """
    return f"{count:,} {name}" + ("" if count == 1 else "s")


def short(number: float) -> str:
    """ "812", "8.1 k", "16 M": with a unit behind it, "8.1 kB"."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(number) < 1000 or prefix == "T":
            break
        number /= 1000
    digits = f"{number:.0f}" if number >= 100 or not prefix else f"{number:.2g}"
    return f"{digits} {prefix}"


def lasting(seconds: float) -> str:
    """ "0.4 s", "41 s", "1 min 43 s", "2 h 5 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
