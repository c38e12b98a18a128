"""Several ticks' frames of an edge in one message: an edge of delay d need not speak more often than every d ticks."""

from collections import deque

import torch
from torch import Tensor

from hamdist.runtime.aligned import aligned
from hamdist.runtime.links.contract import Form, Frame, Link
from hamdist.runtime.token import Token

_FIELDS = 8  # of a frame's row, before one for each tensor: whether it is there
_NOBODY = Token(valid=False)


def bundled_forms(forms: tuple[Form, ...], count: int) -> tuple[Form, ...]:
    """The tensors of a message: what the frames say, one row each, then `count` tensors of each form as one."""
    rows = Form((count, _FIELDS + len(forms)), torch.int64)
    return (rows, *(Form((count, *form.shape), form.dtype) for form in forms))


class Bundled(Link):
    """Frames over a link whose ends carry `bundled_forms`; a message goes as soon as it has `count` frames.

    sends: the forms of a frame's tensors.
    """

    def __init__(self, link: Link, count: int, sends: tuple[Form, ...]) -> None:
        self._link, self._count, self._sends = link, count, sends
        self._leaving: list[Frame] = []
        self._come: deque[Frame] = deque()
        self._messages = 0

    def send(self, frame: Frame) -> None:
        self._leaving.append(frame)
        if len(self._leaving) == self._count:
            frames, self._leaving = self._leaving, []
            self._link.send(Frame(self._messages, _NOBODY, self._packed(frames), frame.final))
            self._messages += 1

    def receive(self) -> Frame:
        if not self._come:
            self._come.extend(_unpacked(self._link.receive()))
        return self._come.popleft()

    def close(self) -> None:
        self._link.close()

    def _packed(self, frames: list[Frame]) -> tuple[Tensor, ...]:
        rows = torch.tensor([_row(frame) for frame in frames])
        told = [[frame.tensors[place] for frame in frames] for place in range(len(self._sends))]
        return (rows, *(_together(form, tensors) for form, tensors in zip(self._sends, told, strict=True)))


def _together(form: Form, tensors: list[Tensor | None]) -> Tensor:
    """One tensor of all; where there was none, it holds anything."""
    example = next((tensor for tensor in tensors if tensor is not None), None)
    if example is None:
        return torch.zeros((len(tensors), *form.shape), dtype=form.dtype)
    return torch.stack([example if tensor is None else tensor for tensor in tensors])


def _row(frame: Frame) -> list[int]:
    """All that a frame says in numbers."""
    token = frame.token
    said = (token.tick, token.first, token.rows, token.repeat, int(token.valid), int(token.learn))
    return [frame.tick, frame.final, *said, *(int(tensor is not None) for tensor in frame.tensors)]


def _unpacked(message: Frame) -> list[Frame]:
    rows, *together = message.tensors
    assert rows is not None, "every message has rows"
    frames = []
    for index, (tick, final, born, first, count, repeat, valid, learn, *marks) in enumerate(rows.tolist()):
        tensors = [
            aligned(t[index]) if m and t is not None else None for m, t in zip(marks, together, strict=True)
        ]
        token = Token(born, first, count, repeat, bool(valid), bool(learn))
        frames.append(Frame(tick, token, tuple(tensors), final))
    return frames
