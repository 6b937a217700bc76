"""The optimizers: each is its settings, under torch's names, and says what they do."""

from meansquare.optimizers.adaptive import AdaGrad, Adam, AdamW
from meansquare.optimizers.descent import SGD, Rprop, SignSGD
from meansquare.optimizers.rmsprop import RMSProp

__all__ = ["SGD", "AdaGrad", "Adam", "AdamW", "RMSProp", "Rprop", "SignSGD"]
