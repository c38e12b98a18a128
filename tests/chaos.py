"""Random faults on a running system, and its outcome held against that of the undisturbed run: all bits must agree.

    python tests/chaos.py --trials 100     one random fault a run, in the process that hosts a random node
    python tests/chaos.py --raylets 10     two nodes, of which that dies on which a random node is
    python tests/chaos.py --resumes 20     the driver, Ray itself or everything ends; `--resume auto` goes on
    python tests/chaos.py --minutes 15     one long run, of which a random process is killed every minute
    python tests/chaos.py --leaks 20       runs with a fault, one after another, and what is left of them
    python tests/chaos.py --steady 30      memory and open files of every process of a run of so many minutes

Prints a line a trial, and a table at the end. The exit status is 1 where a bit differs, or something is left.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from trials import endings, faulty, leaks, long_run, raylets  # noqa: E402 - the folders first


def main() -> int:
    """As the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("trials", "raylets", "resumes", "leaks", "seed"):
        parser.add_argument(f"--{name}", type=int, default=0)
    for name, seconds in (("minutes", 0.0), ("steady", 0.0), ("every", 60.0)):
        parser.add_argument(f"--{name}", type=float, default=seconds)
    asked = parser.parse_args()
    logging.getLogger("hamdist").setLevel(logging.ERROR)
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        if asked.trials:
            wrong += faulty.trials(asked.trials, asked.seed, folder)
        if asked.raylets:
            wrong += raylets.trials(asked.raylets, asked.seed, folder)
        if asked.resumes:
            wrong += endings.trials(asked.resumes, asked.seed, folder)
        if asked.leaks:
            wrong += leaks.trials(asked.leaks, asked.seed, folder)
        if asked.minutes:
            wrong += long_run.trial(asked.minutes, asked.every, asked.seed, folder)
        if asked.steady:
            wrong += leaks.steady(asked.steady, folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
