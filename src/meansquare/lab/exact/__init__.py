"""Exact cases: what has one answer, computed in seconds through the library's own steps.

A case holds an interval for each of its values; it is judged from the values alone, without torch.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from meansquare.lab.claims import Verdict

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Case:
    """A claim, where it is made, and the interval that each value has to be in.

    `module` and `function` compute the values; `says` is the rule in words.
    """

    name: str
    claim: str
    source: str
    says: str
    module: str
    function: str
    bounds: Mapping[str, Bounds]


def run_case(name: str) -> dict[str, float]:
    """Compute the values of a case; the same each time on one machine."""
    case = CASES[name]
    module = importlib.import_module(f"{__name__}.{case.module}")
    import torch

    before = torch.get_num_threads()
    # Tensors here are small: a second thread would only be waited for.
    torch.set_num_threads(1)
    try:
        return getattr(module, case.function)()
    finally:
        torch.set_num_threads(before)


def judge(case: Case, values: Mapping[str, float]) -> Verdict:
    """UNDECIDED where a value is missing, NOT REPRODUCED where one is out of its interval."""
    if not case.bounds.keys() <= values.keys():
        return "UNDECIDED"
    held = all(
        math.isfinite(values[name]) and low <= values[name] <= high
        for name, (low, high) in case.bounds.items()
    )
    return "REPRODUCED" if held else "NOT REPRODUCED"


# Rounding of a few dozen operations in double precision.
_ROUNDING = (0.0, 1e-14)
_ALL = (
    Case(
        "adagrad-identity",
        "RMSProp whose alpha is 1 - 1/t and whose learning rate falls as 1/sqrt(t) is AdaGrad.",
        "Mukkamala and Hein 2017", "every step within rounding, 1e-14",
        "rules", "adagrad_identity", {"largest relative difference of 200 steps": _ROUNDING},
    ),
    Case(
        "inclusion", "RMSProp contains Momentum: with a large eps and lr = eta * eps it is it.",
        "Choi et al. 2019", "the difference is 0.0056 / eps here, within 3 %",
        "rules", "inclusion",
        {
            "relative difference at eps 100": (5.4e-5, 5.75e-5),
            "relative difference at eps 10000": (5.4e-7, 5.75e-7),
            "relative difference at eps 1e+08": (5.4e-11, 5.75e-11),
        },
    ),
    Case(
        "largest-step",
        "A step is at most lr / sqrt(1 - alpha); the first one is as large; debiased, it is lr.",
        "Hinton 2012; follows from v >= (1 - alpha) g^2", "within rounding, 1e-14",
        "rules", "largest_step",
        {
            "first step / bound, least": (1.0 - 1e-14, 1.0 + 1e-14),
            "first step / bound, most": (1.0 - 1e-14, 1.0 + 1e-14),
            "largest of 1000 later steps / bound": (0.999, 1.0 + 1e-14),
            "first debiased step / lr, least": (1.0 - 1e-14, 1.0 + 1e-14),
            "first debiased step / lr, most": (1.0 - 1e-14, 1.0 + 1e-14),
        },
    ),
    Case(
        "sign-descent", "With alpha = 0 a step is lr times the gradient's sign.",
        "Hinton 2012: Rprop is the root of RMSProp", "over 200 decades of gradients, 1e-14",
        "rules", "sign_descent", {"largest relative difference": _ROUNDING},
    ),
    Case(
        "scale-invariance", "Without eps, the loss times a constant gives the same trajectory.",
        "follows from the rule", "bit for bit for a power of two, within 1e-12 for 1000",
        "rules", "scale_invariance",
        {
            "relative difference, loss times 2**20": (0.0, 0.0),
            "relative difference, loss times 1000": (0.0, 1e-12),
        },
    ),
    Case(
        "limit-cycle",
        "On h x^2 / 2 RMSProp ends in a cycle of radius lr/2 - eps/h (eps outside) or "
        "sqrt((lr/2)^2 - eps/h^2) (inside), and converges where eps is above lr h / 2.",
        "follows from v = g^2 on the cycle", "to six digits; converged is below 1e-6",
        "rules", "limit_cycle",
        {
            "radius / (lr/2 - eps/h), eps outside": (1.0 - 1e-6, 1.0 + 1e-6),
            "radius / sqrt((lr/2)^2 - eps/h^2), eps inside": (1.0 - 1e-6, 1.0 + 1e-6),
            "radius at eps = lr h / 2 and a little": (0.0, 1e-6),
        },
    ),
    Case(
        "reddi",
        "With a gradient of 10 once in ten steps and else -1, RMSProp ends at the wrong end at "
        "alpha 0.9 and near the right one, -1, at 0.99.",
        "Reddi et al. 2018; Shi et al. 2021", "1 exactly, and below -0.95",
        "counterexamples", "reddi",
        {"end at alpha 0.9": (1.0, 1.0), "end at alpha 0.99": (-1.0, -0.95)},
    ),
    Case(
        "amsgrad",
        "Where RMSProp ends at the wrong end, AMSGrad and ADOPT's order end near the right one.",
        "Reddi et al. 2018; Taniguchi et al. 2024", "1 exactly, and below -0.9 and -0.99",
        "counterexamples", "amsgrad",
        {
            "end of RMSProp": (1.0, 1.0),
            "end of AMSGrad": (-1.0, -0.9),
            "end of ADOPT's order": (-1.0, -0.99),
        },
    ),
    Case(
        "wilson",
        "On separable data where gradient descent errs never, RMSProp, AdaGrad and Adam fit the "
        "training set and take every new example for a positive.",
        "Wilson et al. 2017, section 3.3", "exactly: 0 %, and the share of the negatives, 40 %",
        "counterexamples", "wilson",
        {
            **{f"training error of {name}": (0.0, 0.0)
               for name in ("gradient descent", "RMSProp", "AdaGrad", "Adam")},
            "test error of gradient descent": (0.0, 0.0),
            **{f"test error of {name}": (40.0, 40.0) for name in ("RMSProp", "AdaGrad", "Adam")},
        },
    ),
    Case(
        "edge-of-stability",
        "In full-batch training the sharpness after RMSProp's preconditioner settles at 2 / lr.",
        "Cohen et al. 2022 and 2025", "lr times it is between 2.0 and 2.2",
        "sharpness", "edge_of_stability",
        {"lr * sharpness at alpha 0.99": (2.0, 2.2), "lr * sharpness at alpha 0.999": (2.0, 2.2)},
    ),
    Case(
        "square-root-scaling",
        "With a batch kappa times as large, lr sqrt(kappa) and kappa (1 - alpha) train alike; a "
        "linear lr does not, nor does the old one.",
        "Malladi et al. 2022", "the loss within 10 %; the others off by 20 %, up or down",
        "sharpness", "square_root_scaling",
        {
            "loss / base at kappa 4, square root": (0.9, 1.1),
            "loss / base at kappa 16, square root": (0.9, 1.1),
            "times off at kappa 4, linear": (1.2, math.inf),
            "times off at kappa 16, linear": (1.2, math.inf),
            "times off at kappa 4, unscaled": (1.2, math.inf),
            "times off at kappa 16, unscaled": (1.2, math.inf),
        },
    ),
    Case(
        "long-tail-softmax",
        "With classes of frequency 1/k, gradient descent leaves the rare ones unlearned that "
        "RMSProp has learned.",
        "Kunstner et al. 2024",
        "after 100 full-batch steps, at rates up to 316: a loss above 0.15, of the rarest class "
        "above 2.5; RMSProp's, at rates up to 1, below 1e-4",
        "counterexamples", "long_tail",
        {
            "loss of gradient descent": (0.15, 1.0),
            "its loss on the rarest class": (2.5, 7.0),
            "loss of RMSProp": (0.0, 1e-4),
        },
    ),
    Case(
        "bf16-average",
        "An average of squares in bfloat16 freezes when it is rounded to nearest; stochastic "
        "rounding, and float32 state, follow the exact one.",
        "follows from eight bits of precision", "at alpha 0.998 above 10 times the exact one; "
        "the others within 1 %",
        "formats", "bf16_average",
        {
            "v / exact, to nearest, alpha 0.998": (10.0, math.inf),
            "v / exact, stochastic, alpha 0.99": (0.99, 1.01),
            "v / exact, stochastic, alpha 0.998": (0.99, 1.01),
            "v / exact of the library's bfloat16 weight, alpha 0.998": (0.99, 1.01),
        },
    ),
    Case(
        "eight-bit-blocks",
        "Kept in eight bits, v is lost where a block's gradients span four decades, unless its "
        "root is what is stored.",
        "Dettmers et al. 2022 (dynamic codes); squares double the decades",
        "an update is off by more than 1e4 at worst with v stored, by less than 3 with its root",
        "formats", "eight_bit_blocks",
        {
            "v, even codes": (1e4, math.inf),
            "v, dynamic codes": (1e4, math.inf),
            "root of v, dynamic codes": (1.0, 3.0),
            "root of v, dynamic codes, sizes alike": (1.0, 1.1),
        },
    ),
)  # fmt: skip
CASES: Mapping[str, Case] = {case.name: case for case in _ALL}
