"""Backends: which there are, and which one steps a tensor."""

import functools
import importlib.util
import sys
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from meansquare.hyper import Rule
from meansquare.kernels import compiled, cpu
from meansquare.parts import part

Kernel = Literal["cpu", "reference"]


@dataclass(frozen=True)
class Backend:
    """A way to run a step: its name, whether it works here, and how or why not."""

    name: str
    live: bool
    detail: str


@dataclass(frozen=True)
class Choice:
    """The kernel for a tensor, and why it is not a fused one (empty when it is)."""

    kernel: Kernel
    reason: str = ""


def backends() -> list[Backend]:
    """Every backend of this installation, with the reason where one is not live.

    >>> [backend.name for backend in backends()]
    ['cpu', 'gpu', 'reference']
    """
    return [
        Backend("cpu", cpu.native is not None, cpu.detail),
        Backend("gpu", False, _gpu_detail()),
        Backend("reference", True, f"torch {torch.__version__} operations, any device"),
    ]


def _gpu_detail() -> str:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; tensors on a GPU are stepped by reference"
    return "rules are printed for Triton, its kernels are not built yet; reference steps them"


def choose(p: Tensor, gradient: Tensor | None, differentiable: bool, rule: Rule) -> Choice:
    """The kernel that steps `p` by a rule, with this gradient (None: with an ordinary one)."""
    if differentiable:
        return Choice("reference", "differentiable=True: autograd follows the step")
    if p.device.type != "cpu":
        return Choice("reference", f"on {p.device}: no fused kernel for this device yet")
    if cpu.native is None:
        return Choice("reference", f"C++ kernels {cpu.detail}")
    if missing := compiled.missing(rule):
        return Choice("reference", missing)
    for name, tensor in (("parameter", p), ("gradient", gradient)):
        if tensor is not None and (reason := _unusual(tensor)):
            return Choice("reference", f"{name} {reason}")
    return Choice("cpu")


def _unusual(t: Tensor) -> str:
    t = part(t)
    if type(t) not in (Tensor, torch.nn.Parameter):
        return f"is a {type(t).__name__}, a subclass of Tensor"
    if t.is_neg() or t.is_conj():
        return "is a lazy negative or conjugate view"
    if t.is_inference():
        return "is an inference tensor"
    if t.data_ptr() % (t.element_size() // (2 if t.is_complex() else 1)):
        return "is not aligned in memory"
    return ""


@functools.cache
def warn_without_compiler() -> None:
    """Say once in a process that steps are slow for want of the extension."""
    if cpu.native is None:
        message = f"meansquare: C++ kernels {cpu.detail}; steps run through torch operations"
        warnings.warn(message, RuntimeWarning, stacklevel=_to_the_caller())


def _to_the_caller() -> int:
    """How many frames up the first is that is not of this package, nor of torch around its
    constructors, as `warnings.warn` counts.
    """
    ours = ("meansquare.", "torch.")
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(ours):
        frame, level = frame.f_back, level + 1
    return level
