"""The structure of an RMSProp update: whatever changes its buffers or the order of operations."""

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

EpsPlace = Literal["outside", "inside", "max"]
Momentum = Literal["none", "heavy_ball", "nesterov"]


@dataclass(frozen=True)
class Spec:
    """The structure of an RMSProp update: whatever changes its buffers or the order of operations.

    `eps_place` is where eps stands in the denominator: `outside` sqrt(v)+eps, `inside`
    sqrt(v+eps), `max` max(sqrt(v), eps). `momentum` adds the buffer b, `centered` the average m
    of the gradient. With `lr_in_momentum` the learning rate enters b when the gradient does (as
    in TensorFlow and Keras) instead of scaling b on its way out (as in torch). `cautious` moves
    only weights whose step goes against their gradient, and these the further.

    >>> Spec(eps_place="inside", momentum="nesterov", lr_in_momentum=True).key
    'rmsprop_inside_nesterov_lr'
    """

    eps_place: EpsPlace = "outside"
    momentum: Momentum = "none"
    centered: bool = False
    lr_in_momentum: bool = False
    cautious: bool = False

    def __post_init__(self) -> None:
        for name in ("lr_in_momentum", "cautious"):
            if getattr(self, name) and self.momentum == "none":
                raise ValueError(f"Spec: {name}=True needs momentum, got momentum='none'")

    @property
    def key(self) -> str:
        """The one name of this variant: C++ symbol, Triton function, test id."""
        words = ["rmsprop", self.eps_place]
        words += ["centered"] if self.centered else []
        words += [self.momentum] if self.momentum != "none" else []
        words += ["lr"] if self.lr_in_momentum else []
        words += ["cautious"] if self.cautious else []
        return "_".join(words)

    @property
    def buffers(self) -> tuple[str, ...]:
        """Names of the state tensors that the rule reads and writes, as torch spells them."""
        names = ["square_avg"]
        names += ["grad_avg"] if self.centered else []
        names += ["momentum_buffer"] if self.momentum != "none" else []
        return tuple(names)


def all_specs() -> tuple[Spec, ...]:
    """Every Spec but the cautious ones, in the order of the generated kernels."""
    buffers = [("none", False), *itertools.product(("heavy_ball", "nesterov"), (False, True))]
    choices = itertools.product(get_args(EpsPlace), (False, True), buffers)
    return tuple(
        Spec(eps_place, momentum, centered, lr_in_momentum)
        for eps_place, centered, (momentum, lr_in_momentum) in choices
    )
