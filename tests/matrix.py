"""E9, every case of it: `python tests/matrix.py`; `make test` runs a sample of them."""

import sys
import time
from collections.abc import Iterator

from support.matrix import CASES, check


def report() -> Iterator[str]:
    for case in CASES:
        started = time.perf_counter()
        found = check(case)
        verdict = "equal" if not found else f"DIFFERS in {', '.join(found)}"
        yield f"{case}: {verdict} ({time.perf_counter() - started:.1f} s)"


def main() -> None:
    lines = []
    for line in report():
        print(line, flush=True)
        lines.append(line)
    failed = sum("DIFFERS" in line for line in lines)
    print(f"{len(lines) - failed} passed, {failed} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
