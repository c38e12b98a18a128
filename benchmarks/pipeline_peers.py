"""What two actors of hamdist are measured against: plain PyTorch in two processes joined by gloo, one thread each.

A contender is a function from the rank of a process, 0 or 1, to its step, which is called over and over.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from chain import RATE, Chain
from torch import nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

Step = Callable[[], None]
Contender = Callable[[int], Step]
CREW = 2
WARM = 5
PATIENCE_SECONDS = 120


def single(chain: Chain, rank: int) -> Step:
    """Process 0 trains the whole chain; process 1 sleeps."""
    if rank > 0:
        return idle
    model, x, y = chain.modules(0, chain.depth), chain.random(0), chain.random(1)
    optimiser = sgd(model)

    def step() -> None:
        optimiser.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimiser.step()

    return step


def apart(chain: Chain, rank: int) -> Step:
    """Each process trains its share of the chain on random inputs and output gradients: they never talk.

    Process 1 also computes the gradient of its input.
    """
    model, x = share(chain, rank), chain.random(0).requires_grad_(rank > 0)
    gradient = chain.random(1, scale=2 / (chain.batch * chain.width))  # of the size of the loss's
    optimiser = sgd(model)

    def step() -> None:
        optimiser.zero_grad()
        x.grad = None
        model(x).backward(gradient)
        optimiser.step()

    return step


def pipelined(
    schedule: type[ScheduleGPipe | Schedule1F1B], microbatches: int, chain: Chain, rank: int
) -> Step:
    """torch.distributed.pipelining: each process trains its share of the chain, the batch cut into microbatches."""
    model = share(chain, rank)
    stage = PipelineStage(model, rank, CREW, torch.device("cpu"))
    # the loss is scaled, which spares the schedule a pass over the gradients
    loss = partial(part_of_mean, chain.batch * chain.width)
    pipeline = schedule(stage, microbatches, loss_fn=loss, scale_grads=False)
    inputs = (chain.random(0),) if rank == 0 else ()
    target = chain.random(1) if rank == CREW - 1 else None
    optimiser = sgd(model)

    def step() -> None:
        optimiser.zero_grad()
        pipeline.step(*inputs, target=target, return_outputs=False)
        optimiser.step()

    return step


def part_of_mean(count: int, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A microbatch's part in the mean squared error of a batch of `count` numbers."""
    return nn.functional.mse_loss(output, target, reduction="sum") / count


def share(chain: Chain, rank: int) -> nn.Sequential:
    count = chain.depth // CREW
    return chain.modules(rank * count, (rank + 1) * count)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=RATE, foreach=True)


def seconds(contender: Contender, steps: int) -> float:
    """Seconds a step, of the slower of two fresh processes, after a warm-up."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory, ProcessPoolExecutor(CREW, spawn) as pool:
        meeting = f"file://{directory}/meeting"
        work = [pool.submit(timed, contender, rank, steps, meeting) for rank in range(CREW)]
        return max(process.result() for process in as_completed(work))


def timed(contender: Contender, rank: int, steps: int, meeting: str) -> float:
    """Seconds a step in this process, from a common start."""
    torch.set_num_threads(1)
    patience = timedelta(seconds=PATIENCE_SECONDS)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=CREW, timeout=patience)
    try:
        step = contender(rank)
        repeat(step, WARM)
        dist.barrier()
        started = time.perf_counter()
        repeat(step, steps)
        return (time.perf_counter() - started) / steps
    finally:
        dist.destroy_process_group()


def repeat(step: Step, times: int) -> None:
    for _ in range(times):
        step()


def idle() -> None:
    """The step of a process that sleeps."""
