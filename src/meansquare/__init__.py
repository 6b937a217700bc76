"""RMSProp done right for PyTorch."""

from meansquare.checkpoint import read_checkpoint
from meansquare.kernels import Backend, backends
from meansquare.optimizers import RMSProp
from meansquare.spec import Hyper, Spec

__version__ = "0.1.0"
__all__ = ["Backend", "Hyper", "RMSProp", "Spec", "__version__", "backends", "read_checkpoint"]
