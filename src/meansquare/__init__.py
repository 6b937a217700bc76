"""RMSProp done right for PyTorch, and the optimizers it is weighed against."""

from meansquare.checkpoint import read_checkpoint
from meansquare.diagnosis import doctor
from meansquare.kernels import backends
from meansquare.optimizers import SGD, AdaGrad, Adam, AdamW, RMSProp, Rprop, SignSGD
from meansquare.optimizers.groups import decay_groups
from meansquare.optimizers.own import optimizer
from meansquare.recipes import recipe

__version__ = "0.1.0"
__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "RMSProp",
    "Rprop",
    "SignSGD",
    "__version__",
    "backends",
    "decay_groups",
    "doctor",
    "optimizer",
    "read_checkpoint",
    "recipe",
]
