"""Rules whose framework does not run here, written out as they were read, beside ours."""

import math

import numpy as np
import pytest

from conformance.framework import Run
from conformance.ours import path
from conformance.problem import STARTS, VARIED, flat
from meansquare.dialects import DIALECTS

ROUNDING = 1e-10  # as conformance allows in float64


def dqn(lr=2.5e-4, wc=0.0):
    """dqn/NeuralQLearner.lua: dw is the direction of ascent, g and g2 its averages."""
    g, g2 = 0.0, 0.0

    def step(w, gradient, factor):
        nonlocal g, g2
        dw = -gradient - wc * w
        g = 0.95 * g + 0.05 * dw
        g2 = 0.95 * g2 + 0.05 * dw * dw
        return w + lr * factor * dw / math.sqrt(-(g * g) + g2 + 0.01)

    return step


def flux(eta=0.001, rho=0.9, epsilon=1e-8, centred=False):
    """Optimisers.jl, src/rules.jl: apply!(o::RMSProp, state, x, dx)."""
    quad, lin = 0.0, 0.0

    def step(x, dx, factor):
        nonlocal quad, lin
        quad = rho * quad + (1 - rho) * abs(dx) ** 2
        lin = rho * lin + (1 - rho) * dx if centred else 0.0
        return x - dx * eta * factor / (math.sqrt(quad - abs(lin) ** 2) + epsilon)

    return step


def torch7(learningRate=1e-2, alpha=0.99, epsilon=1e-8, weightDecay=0.0, initialMean=0.0):  # noqa: N803
    """rmsprop.lua of torch/optim."""
    m = initialMean

    def step(x, dfdx, factor):
        nonlocal m
        dfdx = dfdx + weightDecay * x
        m = m * alpha + (1 - alpha) * dfdx * dfdx
        return x + -learningRate * factor * dfdx / (math.sqrt(m) + epsilon)

    return step


def hinton(lr):
    """Slide 29 of lecture 6e; a weight whose gradients were all zero rests."""
    mean_square = 0.0

    def step(w, gradient, factor):
        nonlocal mean_square
        mean_square = 0.9 * mean_square + 0.1 * gradient**2
        return w - lr * factor * gradient / math.sqrt(mean_square) if mean_square else w

    return step


READ = [
    (dqn, {}),
    (dqn, {"lr": 0.01, "wc": 0.05}),
    (flux, {}),
    (flux, {"eta": 0.01, "rho": 0.8, "epsilon": 1e-3}),
    (flux, {"eta": 0.01, "rho": 0.8, "centred": True}),
    (torch7, {}),
    (torch7, {"learningRate": 0.1, "alpha": 0.9, "epsilon": 1e-3, "weightDecay": 0.05}),
    (torch7, {"initialMean": 1.0}),
    (hinton, {"lr": 0.01}),
]


@pytest.mark.parametrize(("rule", "arguments"), READ)
def test_a_dialect_that_was_read_is_the_rule_that_was_read(rule, arguments):
    steps = [rule(**arguments) for _ in flat(STARTS)]
    weights, ours = flat(STARTS), path(rule.__name__, arguments, Run(VARIED, "float64"))
    for t, factor, grads in Run(VARIED, "float64").steps():
        moved = zip(steps, weights, flat(grads), strict=True)
        weights = np.array([step(w, g, factor) for step, w, g in moved])
        assert np.abs(ours[t - 1] - weights).max() <= ROUNDING * max(1, np.abs(weights).max())


def test_every_dialect_that_was_read_is_written_out():
    read = {name for name, row in DIALECTS.items() if row.verified == "read"}
    assert read == {rule.__name__ for rule, _ in READ}
