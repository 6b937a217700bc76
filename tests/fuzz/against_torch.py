"""A random run of RMSProp beside torch.optim.RMSprop, within rounding of each other."""

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, OneCycleLR
from twins import pair, parameters, set_gradients, through_a_file

from fuzz.against_oracle import DifferenceError
from fuzz.inputs import laid_out, pick, shape

STEPS = 60
NUMBERS = {
    "lr": (1e-4, 1e-3, 1e-2),
    "alpha": (0.5, 0.9, 0.99, 0.999),
    "eps": (1e-8, 1e-5, 1e-2),
    "weight_decay": (0.0, 1e-4, 0.1),
    "momentum": (0.0, 0.5, 0.9),
    "maximize": (False, True),
}
# Rounding of some 60 steps, relative to the largest element of a parameter, which begins at 1.
# Centered, v - m*m loses digits in both.
WITHIN = {torch.float32: 1e-5, torch.float64: 1e-10, torch.complex64: 1e-5, torch.complex128: 1e-10}
CENTERED = 20


class TorchTrial:
    """The same parameters twice, stepped by either optimizer."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.dtype = pick(self.random, tuple(WITHIN))
        self.centered = bool(self.random.integers(2))
        chosen = self.numbers() | {"momentum": 0.9, "centered": self.centered}
        self.opts = pair(self.new_parameters(), **chosen)
        self.schedules: list = []
        self.elements = 0

    def numbers(self) -> dict:
        return {name: pick(self.random, values) for name, values in NUMBERS.items()}

    def new_parameters(self) -> list[nn.Parameter]:
        sizes = [shape(self.random) for _ in range(self.random.integers(1, 4))]
        params = [nn.Parameter(laid_out(self.random, size, self.dtype)) for size in sizes]
        for p in params:
            nn.init.ones_(p)
        return params

    def run(self) -> None:
        for t in range(STEPS):
            turn = pick(self.random, TURNS) if t and self.random.random() < 0.2 else None
            if turn:
                turn(self)
            set_gradients(t + int(self.random.integers(1000)), *map(parameters, self.opts))
            # New parameters are all stepped at once: torch makes a momentum buffer only then.
            if t and turn is not added and self.random.random() < 0.2:
                self.drop_gradients()
            for own in (*self.opts, *self.schedules):
                own.step()
            self.compare()

    def drop_gradients(self) -> None:
        for ours, theirs in zip(*map(parameters, self.opts), strict=True):
            if self.random.random() < 0.5:
                ours.grad = theirs.grad = None

    def compare(self) -> None:
        for ours, theirs in zip(*map(parameters, self.opts), strict=True):
            self.elements += ours.numel()
            far = (ours - theirs).abs().amax().item() if ours.numel() else 0.0
            size = theirs.abs().amax().clamp_min(1).item() if ours.numel() else 1.0
            if not far <= size * WITHIN[self.dtype] * (CENTERED if self.centered else 1):
                raise DifferenceError(f"a parameter of size {size} is {far:.2g} away from torch's")


def new_numbers(trial: TorchTrial) -> None:
    i, new = trial.random.integers(len(trial.opts[0].param_groups)), trial.numbers()
    name = str(pick(trial.random, tuple(new)))
    for opt in trial.opts:
        opt.param_groups[i][name] = new[name]


def new_schedule(trial: TorchTrial) -> None:
    make = pick(
        trial.random,
        (
            lambda opt: ExponentialLR(opt, 0.9),
            lambda opt: CosineAnnealingLR(opt, 7),
            lambda opt: OneCycleLR(opt, max_lr=0.01, total_steps=STEPS + 1),
        ),
    )
    for opt in trial.opts:
        for group in opt.param_groups:
            group.pop("initial_lr", None)
    trial.schedules = [make(opt) for opt in trial.opts]


def moved(trial: TorchTrial) -> None:
    """New storage of another layout, for every parameter; the state of torch's moves too."""
    for opt in trial.opts:
        for p in parameters(opt):
            p.grad = None
            p.data = p.data.clone(memory_format=torch.contiguous_format)


def exchanged(trial: TorchTrial) -> None:
    """Each loads what the other has saved."""
    ours, theirs = (through_a_file(opt.state_dict()) for opt in trial.opts)
    trial.opts[0].load_state_dict(theirs)
    trial.opts[1].load_state_dict(ours)
    trial.schedules = []


def added(trial: TorchTrial) -> None:
    params, chosen = trial.new_parameters(), trial.numbers() | {"momentum": 0.9}
    again = [nn.Parameter(p.detach().clone()) for p in params]
    for opt, own in zip(trial.opts, (params, again), strict=True):
        opt.add_param_group({"params": own, **chosen})
    trial.schedules = []


TURNS = (new_numbers, new_numbers, new_schedule, moved, exchanged, added)
