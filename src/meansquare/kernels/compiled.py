"""Kernels of rules that users write: printed, compiled once, kept in a cache and loaded."""

from meansquare.hyper import Rule
from meansquare.kernels import cpu


def missing(rule: Rule) -> str:
    """Why there is no C++ kernel of a rule; empty where there is one."""
    if cpu.native is None or cpu.native.has_rule(rule.key):
        return ""
    return "not compiled"
