"""Predictions leave an actor as they leave a run in one process, while it is at work, and never pile up in it."""

import threading

import torch
from support.actors import Ensemble
from support.inline import learning, run_through, runtime_of
from support.networks import mlp
from support.patience import patient
from support.samples import samples
from torch import nn

from hamdist.cluster.prediction_box import PredictionBox
from hamdist.engine.loss_node import Prediction
from hamdist.engine.prediction_lines import PredictionLines, lines_of
from hamdist.network.locality import Locality
from hamdist.network.network import Network

SECONDS = patient(60)


def test_the_lines_of_an_actor_are_those_of_one_process():
    batches = samples(12, (8,))
    runtime = runtime_of(mlp(3), batches)
    told = lines_of(runtime.loss, "abc")
    expected = [line for p in run_through(runtime, batches) for line in told(p)]
    network, actors = Network.of(mlp(3), nn.functional.cross_entropy), [["0"], ["1", "2"]]
    with Ensemble(
        network, Locality(), learning(), batches, actors, holdout=batches[:2], labels=tuple("abc")
    ) as ran:
        ran.run()
        assert ran.workers[1].predicted() == expected
        assert ran.workers[1].predicted() == []
        assert ran.workers[0].predicted() == []


def prediction(first: int, learn: bool = True) -> Prediction:
    return Prediction(torch.zeros(2, 1), first, 2, torch.tensor(0.0), learn)


def test_an_actor_waits_until_there_is_room(monkeypatch):
    monkeypatch.setattr("hamdist.cluster.prediction_box.MOST", 2)
    box, done = PredictionBox(PredictionLines(None, "")), threading.Event()

    def put_all() -> None:
        box.put([prediction(0)])
        box.put([prediction(2)])
        done.set()

    thread = threading.Thread(target=put_all)
    thread.start()
    taken: list[str] = []
    while len(taken) < 4:
        new = box.take()
        assert len(new) <= 2
        taken += new
    assert done.wait(SECONDS)
    thread.join()
    assert [line[:12] for line in taken] == [f'{{"sample": {n}' for n in range(4)]


def test_one_that_is_stopped_waits_no_more(monkeypatch):
    monkeypatch.setattr("hamdist.cluster.prediction_box.MOST", 1)
    box = PredictionBox(PredictionLines(None, ""))
    box.put([prediction(0, learn=False), prediction(0)])
    thread = threading.Thread(target=box.put, args=([prediction(2)],))
    thread.start()
    box.close()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert len(box.take()) == 4
