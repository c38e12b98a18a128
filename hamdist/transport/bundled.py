"""Several ticks' frames of an edge in one message: an edge of delay d need not speak more often than every d ticks."""

from collections import deque

import numpy as np
import torch
from torch import Tensor

from hamdist.engine.message import Form, Stretch, Token
from hamdist.transport.base import Frame, Frames, Link

_FIELDS = 1 + len(
    Token._fields
)  # of a frame's row, before the words of its restarts, and a mark for each tensor
_WORD = 63  # bits
_NOBODY = Token(valid=False)


def bundled_forms(forms: tuple[Form, ...], count: int, batch: int) -> tuple[Form, ...]:
    """The tensors of a message: what the frames say, one row each, then `count` tensors of each form as one."""
    rows = Form((count, _FIELDS + _words(batch) + len(forms)), torch.int64)
    return (rows, *(Form((count, *form.shape), form.dtype) for form in forms))


class Bundled(Link):
    """Frames over a link whose ends carry `bundled_forms`.

    sends: the forms of a frame's tensors.  gathers: how many frames make a message, which goes as soon as it has them;
    1: those of a message are those that are sent together.  batch: rows of one.
    """

    def __init__(self, link: Link, gathers: int, sends: tuple[Form, ...], batch: int) -> None:
        self._link, self._gathers, self._sends = link, gathers, sends
        self._words = _words(batch)
        self._leaving: list[Frames] = []  # each of one tick
        self._come: deque[Frames] = deque()
        self._messages = 0

    def send(self, frame: Frame) -> None:
        self.send_all(Frames.of(frame))

    def send_all(self, frames: Frames) -> None:
        ticks = frames.stretch.ticks
        if not self._leaving and ticks > 1 and self._gathers in (1, ticks):
            tensors = zip(self._sends, frames.stretch.tensors, strict=True)
            self._post(
                self._rows(frames), [_told(form, tensor, ticks) for form, tensor in tensors], frames.final
            )
            return
        for each in frames.single():
            self._leaving.append(each)
            if len(self._leaving) == self._gathers:
                self._post_all()

    def receive(self) -> Frame:
        first = self.receive_all().single()
        self._come.extendleft(reversed(first[1:]))
        return first[0].frame()

    def receive_all(self) -> Frames:
        if not self._come:
            self._come.extend(_unpacked(self._link.receive()))
        return self._come.popleft()

    def close(self) -> None:
        self._link.close()

    def _post_all(self) -> None:
        frames, self._leaving = self._leaving, []
        told = [[each.stretch.tensors[place] for each in frames] for place in range(len(self._sends))]
        together = [_together(form, tensors) for form, tensors in zip(self._sends, told, strict=True)]
        self._post([row for each in frames for row in self._rows(each)], together, frames[-1].final)

    def _post(self, rows: list[list[int]], tensors: list[Tensor], final: int) -> None:
        said = torch.from_numpy(np.array(rows, dtype=np.int64))
        self._link.send(Frame(self._messages, _NOBODY, (said, *tensors), final))
        self._messages += 1

    def _rows(self, frames: Frames) -> list[list[int]]:
        """All that frames say in numbers."""
        tick, stretch, final = frames
        marks = [tensor is not None for tensor in stretch.tensors]
        return [
            [tick + k, final, *token[:-1], *_split(token.restarts, self._words), *marks]
            for k, token in enumerate(stretch.tokens)
        ]


def _words(batch: int) -> int:
    """How many words the restarts of a batch take."""
    return 1 + (batch - 1) // _WORD


def _split(restarts: int, words: int) -> list[int]:
    assert restarts >> words * _WORD == 0, "rows of the batch"
    return [restarts >> word * _WORD & (1 << _WORD) - 1 for word in range(words)]


def _told(form: Form, tensor: Tensor | None, ticks: int) -> Tensor:
    """Where there is none, one that holds anything."""
    return torch.zeros((ticks, *form.shape), dtype=form.dtype) if tensor is None else tensor


def _together(form: Form, tensors: list[Tensor | None]) -> Tensor:
    """One tensor of all; where there was none, it holds anything."""
    example = next((tensor for tensor in tensors if tensor is not None), None)
    if example is None:
        return _told(form, None, len(tensors))
    return torch.stack([example if tensor is None else tensor for tensor in tensors])


def _unpacked(message: Frame) -> list[Frames]:
    """The frames, in one piece where all of them carry the same tensors, else one by one."""
    rows, *together = message.tensors
    assert rows is not None, "every message has rows"
    told = rows.tolist()
    marks = [row[len(row) - len(together) :] for row in told]
    tokens = tuple(_token(row[: len(row) - len(together)]) for row in told)
    if len(told) == 1:
        together = [None if tensor is None else tensor[0] for tensor in together]
    stretch = Stretch(tokens, tuple(together))
    if all(row[1] == told[0][1] for row in told) and marks.count(marks[0]) == len(marks):
        return [Frames(told[0][0], _there(stretch, marks[0]), message.final)]
    return [
        Frames(row[0], _there(one, mark), row[1])
        for row, one, mark in zip(told, stretch.single(), marks, strict=True)
    ]


def _there(stretch: Stretch, marks: list[int]) -> Stretch:
    """With those tensors alone that are marked."""
    return stretch._replace(
        tensors=tuple(t if mark else None for t, mark in zip(stretch.tensors, marks, strict=True))
    )


def _token(row: list[int]) -> Token:
    _, _, tick, first, rows, repeat, valid, learn, *words = row
    restarts = sum(word << _WORD * place for place, word in enumerate(words)) if any(words) else 0
    return Token(tick, first, rows, repeat, valid != 0, learn != 0, restarts)
