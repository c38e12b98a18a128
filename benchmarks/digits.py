"""The dial on digits: hold-out accuracy over three seeds, each locality beside backpropagation.

64-wide residual networks, batch 16, 64,000 samples, no momentum, β = 0.1. Streams and hold-outs depend on the seed.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator

from table import machine, show, verdict

import hamdist

SEEDS = (0, 1, 2)
LIMITS = {  # hold-out accuracy, mean of three seeds
    "fully local, stashed, depth 6": 0.968,
    "fully local, stashed, depth 20": 0.96,
    "non-local, depth 6": 0.97,
    "fully local, reversible, depth 8": 0.965,
}


def config(middle: dict, depth: int, samples: int, **locality: str) -> dict:
    """digits with `depth` layers: an embedding, `middle` repeated, a head."""
    linear = {"type": "Linear", "in_features": 64, "out_features": 64}
    return {
        "name": "digits",
        "stream": {"source": "digits", "batch_size": 16, "samples": samples},
        "network": {
            "loss": "cross_entropy",
            "layers": [
                {"name": "embed", "modules": [linear, {"type": "Tanh"}]},
                {"name": "block", "repeat": depth - 2, **middle},
                {"name": "head", "modules": [{**linear, "out_features": 10}]},
            ],
        },
        "locality": locality,
        "learning": {"beta": 0.1},
    }


def residual(width: int = 64) -> dict:
    return {
        "residual": True,
        "modules": [{"type": "Linear", "in_features": width, "out_features": width}, {"type": "Tanh"}],
    }


def coupling(width: int = 32) -> dict:
    half = [{"type": "Linear", "in_features": width, "out_features": width}, {"type": "Tanh"}]
    return {"coupling": {"f": half, "g": half}}


def cases(samples: int) -> Iterator[tuple[str, dict]]:
    yield "non-local, depth 6", config(residual(), 6, samples, mode="nonlocal")
    yield "fully local, stashed, depth 6", config(residual(), 6, samples, mode="local")
    yield (
        "fully local, reversible, depth 8",
        config(coupling(), 8, samples, mode="local", pairing="reversible"),
    )
    yield "non-local, depth 20", config(residual(), 20, samples, mode="nonlocal")
    yield "fully local, stashed, depth 20", config(residual(), 20, samples, mode="local")


def holdout(settings: dict, seed: int) -> dict:
    with tempfile.TemporaryDirectory() as directory:
        return hamdist.run(settings, [f"seed={seed}"], out=f"{directory}/run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    samples = 8000 if parser.parse_args().quick else 64000
    rows, verdicts = [], []
    for name, settings in cases(samples):
        summaries = [holdout(settings, seed) for seed in SEEDS]
        accuracies = [summary["holdout"]["accuracy"] for summary in summaries]
        mean = statistics.mean(accuracies)
        online = statistics.mean(summary["prequential"]["accuracy"] for summary in summaries)
        speed = statistics.median(summary["samples_per_second"] for summary in summaries)
        rows.append((name, mean, min(accuracies), max(accuracies), online, speed))
        if name in LIMITS:
            verdicts.append(verdict(name, mean, LIMITS[name], at_most=False))
    headings = ["network", "hold-out", "lowest", "highest", "prequential", "samples/s"]
    show(f"Digits, {samples:,} samples, seeds {SEEDS}", headings, rows)
    print("\n".join(verdicts), machine(), sep="\n")


if __name__ == "__main__":
    main()
