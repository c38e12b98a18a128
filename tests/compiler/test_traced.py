"""Traced operations: the same bits as the function, in place where it writes in place, and nothing data-dependent."""

import random
from collections.abc import Callable

import pytest
import torch
from support.seeds import over_seeds
from torch import Tensor, fx

from hamdist.compiler.passes import in_place
from hamdist.compiler.trace import Traced

SHAPE = (3, 4)


def tensors(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(SHAPE, generator=generator) for _ in range(count)]


def operations(traced: Traced) -> list[fx.Node]:
    return [node for node in traced.graph.graph.nodes if node.op == "call_function"]


def check(function: Callable[..., object], arguments: list[Tensor], eager: bool = True) -> Traced:
    """The trace, which gives the bits of the function, in its results and in what it writes."""
    traced = Traced(function, *arguments, eager=eager)
    for seed in (1, 2):
        ours, theirs = tensors(len(arguments), seed), tensors(len(arguments), seed)
        results, expected = traced(*ours), function(*theirs)
        assert [torch.equal(a, b) for a, b in zip(results, expected, strict=True)] == [True] * len(expected)
        assert all(map(torch.equal, ours, theirs))
    return traced


def random_function(seed: int) -> Callable[..., list[Tensor]]:
    """Twenty steps that read and write four tensors and views of them, which steps after them see."""

    def function(*given: Tensor) -> list[Tensor]:
        chance = random.Random(seed)
        known = [*given, given[0][1:], given[1].t().t()]
        for _ in range(20):
            a, b = chance.choice(known), chance.choice(given)
            match chance.randrange(7):
                case 0:
                    a.add_(b[: len(a)], alpha=0.5)
                case 1:
                    a.mul_(0.9)
                case 2:
                    a.add_(0.1)
                case 3:
                    known.append(a * 1)
                case 4:
                    known.append(torch.tanh(a) * b[: len(a)])
                case 5:
                    known.append(a[:2])
                case 6:
                    known.append(a + 1)
        return [tensor.clone() for tensor in known]

    return function


@pytest.mark.slow
@over_seeds(12)
def test_whatever_is_read_and_written_in_whatever_order(seed):
    check(random_function(seed), tensors(4))


def test_alike_updates_run_as_one():
    def learn(*given: Tensor) -> list[Tensor]:
        costates, thetas = given[:3], given[3:]
        return [
            theta.add_(omega.mul_(0.9), alpha=-0.1) for omega, theta in zip(costates, thetas, strict=True)
        ]

    traced = check(learn, tensors(6))
    assert [node.target for node in operations(traced)] == [
        torch._foreach_mul_,
        torch._foreach_add_,
    ]


def test_an_update_does_not_overtake_who_still_reads_what_it_writes():
    """By kind and order of names the sum would come first."""

    def move(omega: Tensor, theta: Tensor) -> list[Tensor]:
        theta.mul_(omega)
        return [theta, omega.add_(1.0)]

    check(move, tensors(2))


def test_a_view_taken_before_an_update_shows_it():
    def function(x: Tensor, y: Tensor) -> list[Tensor]:
        row = x[1:]
        y.add_(row.sum())
        x.mul_(2.0)
        return [row + 1, y]

    check(function, tensors(2))


def test_results_lie_in_the_memory_of_what_is_written_in_place():
    traced = Traced(lambda x, y: (x.mul_(2.0), y + x, y), *tensors(2))
    x, y = tensors(2)
    doubled, total, given = traced(x, y)
    assert doubled is x
    assert given is y
    assert torch.equal(total, tensors(2)[0] * 2 + y)


def test_what_changes_nothing_is_left_out():
    def nothing(x: Tensor) -> list[Tensor]:
        return [torch.tanh(x.detach().view(3, 4).expand(3, 4)[0:3] * 1)]

    assert [node.target for node in operations(check(nothing, tensors(1)))] == [torch.tanh]


def test_a_factor_of_one_stays_where_it_makes_a_copy_that_is_needed():
    def copied(x: Tensor) -> list[Tensor]:
        copy = x * 1
        return [copy.relu_(), x + 0]

    def kept(x: Tensor) -> list[Tensor]:
        before = x * 1
        x.add_(1.0)
        return [before + x]

    check(copied, tensors(1))
    check(kept, tensors(1))


def test_a_factor_of_one_that_changes_the_dtype_stays():
    def function(x: Tensor) -> list[Tensor]:
        return [(x > 0) * 1, (x > 0).long() * 1.0]

    integers, numbers = check(function, tensors(1))(*tensors(1))
    assert (integers.dtype, numbers.dtype) == (torch.int64, torch.float32)


def test_products_that_are_turned_come_in_plain_order():
    def gradient(a: Tensor, b: Tensor) -> list[Tensor]:
        return [torch.bmm(a.transpose(1, 2), b).transpose(1, 2)]

    stacks = [torch.randn(2, 5, 3), torch.randn(2, 5, 4)]
    traced = Traced(gradient, *stacks)
    (ours,), (theirs,) = traced(*stacks), gradient(*stacks)
    assert ours.is_contiguous()
    assert not theirs.is_contiguous()
    assert torch.allclose(ours, theirs)


def test_outer_products_are_products():
    columns = torch.randn(2, 3, 1), torch.randn(2, 1, 4)
    traced = Traced(lambda a, b: [torch.bmm(a, b)], *columns)
    assert torch.equal(traced(*columns)[0], torch.bmm(*columns))
    assert [node.target for node in operations(traced)] == [torch.mul]


def test_code_that_asks_for_a_value_is_refused():
    with pytest.raises(Exception, match="data-dependent"):
        Traced(lambda x: [x if x.sum() > 0 else -x], *tensors(1))


def test_for_a_compiler_nothing_is_gathered():
    def learn(a: Tensor, b: Tensor) -> list[Tensor]:
        return [a.mul_(0.5), b.mul_(0.5)]

    traced = check(learn, tensors(2), eager=False)
    assert sum(map(in_place, operations(traced))) == 2
