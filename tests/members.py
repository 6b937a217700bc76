"""Every rule of the family: whose it is, and the settings that ask for it."""

from dataclasses import dataclass, field
from typing import Any

import oracle
import torch

from meansquare import SGD, AdaGrad, Adam, AdamW, RMSProp, Rprop, SignSGD
from meansquare.spec import all_specs


@dataclass(frozen=True)
class Member:
    """An optimizer of ours with some settings, and its namesake in torch where it has one."""

    kind: Any
    options: dict[str, Any]
    namesake: Any = None
    extras: tuple[dict[str, Any], ...] = field(default=({},))
    """Settings besides, which every rule of the optimizer takes."""

    @property
    def key(self) -> str:
        return self.hyper().rule.key

    def hyper(self, **options: Any) -> Any:
        return self.kind._kind.checked(self.options | options, self.kind.__name__)


DECAY = {"weight_decay": 0.1, "maximize": True, "clip_value": 0.7}
PLAIN = ({}, DECAY)
RMSPROP = (
    *PLAIN,
    {"weight_decay": 0.1, "weight_decay_mode": "decoupled", "bias_correction": True},
    {"weight_decay": 0.1, "weight_decay_mode": "corrected", "initial_square_avg": 1.0},
)
ADAM = (*PLAIN, {"weight_decay": 0.1, "decoupled_weight_decay": True, "betas": (0.5, 0.9)})
ADAGRAD = (*PLAIN, {"lr_decay": 0.1, "initial_accumulator_value": 0.3})

FAMILY = [
    Member(SGD, {}, torch.optim.SGD, PLAIN),
    Member(SGD, {"momentum": 0.9}, torch.optim.SGD, (*PLAIN, {"dampening": 0.5})),
    Member(SGD, {"momentum": 0.9, "nesterov": True}, torch.optim.SGD, PLAIN),
    Member(AdaGrad, {}, torch.optim.Adagrad, ADAGRAD),
    Member(Adam, {}, torch.optim.Adam, ADAM),
    Member(Adam, {"amsgrad": True}, torch.optim.Adam, ADAM),
    Member(AdamW, {}, torch.optim.AdamW, PLAIN),
    Member(Rprop, {}, torch.optim.Rprop, ({}, {"maximize": True, "etas": (0.4, 1.3)})),
    Member(SignSGD, {}, None, PLAIN),
]
MEMBERS = [
    *(
        Member(RMSProp, oracle.options_of(spec), torch.optim.RMSprop, RMSPROP)
        for spec in all_specs()
    ),
    *(member for member in FAMILY if member.kind is not AdamW),
]
NAMESAKES = {member.kind: member.namesake for member in FAMILY if member.namesake}


def words(kind: Any, options: dict[str, Any]) -> str:
    """What a test's id says of an optimizer and its settings."""
    return "-".join([kind.__name__, *(f"{n}={value}" for n, value in options.items() if value)])
