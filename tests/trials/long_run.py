"""One long run that loses a random process now and then: its bits, and its throughput beside the undisturbed one's."""

import json
import os
import random
import signal
import subprocess
from pathlib import Path

from trials.runs import BATCH, NEVER, TWO, digits, launch, same, summary_of

from hamdist.cluster.ray_processes import processes


def trial(minutes: float, every: float, seed: int, folder: Path) -> int:
    """Whether its bits are another's."""
    rate, samples = _rate(folder, minutes)
    reference, out = folder / "long-undisturbed", folder / "long"
    launch(digits(TWO, samples, checkpoint=NEVER), reference).wait()
    config = digits(TWO, samples, checkpoint={"every_seconds": 2})
    config["placement"]["spares"] = 1
    chance, kills = random.Random(seed), 0
    running = launch(config, out)
    while running.poll() is None:
        try:
            running.wait(every)
        except subprocess.TimeoutExpired:
            kills += kill_one(running.pid, chance)
    summary, plain = summary_of(out), summary_of(reference)
    alone, disturbed = plain["phases"]["learning"], summary["phases"]["learning"]
    differing = same(out, reference)
    for restart in summary["restarts"]:
        print(json.dumps(restart))
    print(
        f"{samples} samples at {rate:.0f}/s, {kills} kills, {len(summary['restarts'])} restarts: {alone:.0f} s "
        f"undisturbed, {disturbed:.0f} s disturbed: {alone / disturbed:.1%} of the throughput; "
        f"{differing or 'the same bits'}"
    )
    return bool(differing)


def _rate(folder: Path, minutes: float) -> tuple[float, int]:
    """Samples a second, and as many samples as take so long."""
    pace = folder / "pace"
    launch(digits(TWO, BATCH * 3000, checkpoint=NEVER), pace).wait()
    rate = summary_of(pace)["samples_per_second"]
    return rate, int(rate * minutes * 60) // BATCH * BATCH


def actors_of(driver: int) -> list[int]:
    """The processes of the actors, spares among them, of a driver that has started its own Ray."""
    known = processes()
    raylets = {each.pid for each in known if each.name == "raylet" and each.parent == driver}
    workers = [each.pid for each in known if each.parent in raylets]
    return [pid for pid in workers if b"WorkerActor" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def kill_one(driver: int, chance: random.Random) -> bool:
    """Ends one of them, whichever; whether there was one."""
    busy = actors_of(driver)
    if busy:
        os.kill(chance.choice(busy), signal.SIGKILL)
    return bool(busy)
