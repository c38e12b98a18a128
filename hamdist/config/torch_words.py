"""PyTorch's words for what has another name here, so that who knows those finds these."""

from collections.abc import Iterable

from hamdist.config.problems import suggestion

RATE = "the learning rate is beta, a number or a schedule"
OPTIMIZER = (
    "weights move by Hamilton's equations: adaptive={'type': 'adam'}, 'adamw', 'rmsprop' or 'soap' sets the \
rates of an optimizer, and nothing gives SGD"
)
MOMENTUM = "momentum is 1 - tau * dissipation['weight']: for 0.9, dissipation={'weight': 0.1}"
DEVICE = (
    "layers live where the first batch is: move the batches there; which actor has which device says the section \
placement of a config"
)
LOSS = "it is called loss"
EPOCHS = "a learner hears a stream: present batches as often as they are to be seen"
BATCH = "a batch has the rows of the first one: give step as many as it is to have"
MOMENTS = "adaptive={'type': 'adam', 'b1': …, 'b2': …, 'eps': …} sets them"

WORDS = {
    "lr": RATE,
    "learning_rate": RATE,
    "eta": RATE,
    "scheduler": RATE,
    "lr_scheduler": RATE,
    "schedule": RATE,
    "optimizer": OPTIMIZER,
    "optimiser": OPTIMIZER,
    "optim": OPTIMIZER,
    "opt": OPTIMIZER,
    "momentum": MOMENTUM,
    "dampening": MOMENTUM,
    "betas": MOMENTS,
    "eps": MOMENTS,
    "amsgrad": OPTIMIZER,
    "device": DEVICE,
    "devices": DEVICE,
    "gpu": DEVICE,
    "gpus": DEVICE,
    "cuda": DEVICE,
    "placement": "its keys stack, compile, chunk, runtime and actors are arguments of their own",
    "criterion": LOSS,
    "loss_fn": LOSS,
    "loss_function": LOSS,
    "losses": LOSS,
    "objective": LOSS,
    "model": "it is called layers, and comes first",
    "module": "it is called layers, and comes first",
    "epochs": EPOCHS,
    "num_epochs": EPOCHS,
    "n_epochs": EPOCHS,
    "max_epochs": EPOCHS,
    "batch_size": BATCH,
    "bs": BATCH,
    "mode": "it is called locality",
    "grad_clip": "clip bounds the costates of states; there is no gradient to clip",
    "gradient_clip": "clip bounds the costates of states; there is no gradient to clip",
    "max_grad_norm": "clip bounds the costates of states; there is no gradient to clip",
    "wd": "it is called weight_decay",
    "l2": "it is called weight_decay",
    "random_state": "it is called seed",
    "workers": 'it is called actors, and needs runtime="ray"',
    "num_workers": 'it is called actors, and needs runtime="ray"',
}


def meant(word: str, accepted: Iterable[str]) -> str:
    """What to write instead of a word that is not accepted: the end of a message."""
    return WORDS.get(word.lower()) or suggestion(word, accepted)
