"""The definition of every update, once, as arithmetic on any number-like value.

A rule takes the numbers `h` of a step, the parameter `p`, its gradient `g` and its buffers, and
returns the new parameter and buffers. It runs on NumPy arrays (the oracle of the tests), on torch
tensors (the reference backend) and on the symbols of `meansquare.trace`, which are printed as C++
and as Triton. What is computed of `h` alone is computed once for a tensor, in double precision.
NaN passes through; what is too small to count is zero.
"""

import math

import numpy as np

from meansquare.spec import Spec


def gradient(h, p, g):
    """The gradient as rules take it: with its sign, scaled to its norm, clipped, with L2 decay."""
    g = (h.sign * h.grad_scale) * or_zero(g, h.tiny)
    g = at_most(at_least(g, -h.clip), h.clip)
    return choose(h.l2 > 0, g + h.l2 * p, g)


def mean_square(h, beta, v, g):
    """The running mean of g^2, this gradient included."""
    return beta * or_zero(v, h.tiny) + (1 - beta) * square(g, h.least)


def squared_size(h, beta, debias, p, g, v):
    """g^2 over its own mean, corrected by `debias`."""
    g = gradient(h, p, g)
    v = mean_square(h, beta, v, g)
    return square(g, h.least) / at_least(v * debias, h.eps_squared)


def rmsprop(spec: Spec, h, p, g, v, m=None, b=None):
    """v = alpha*v + (1-alpha)*g^2;  p = p - lr*g/(sqrt(v)+eps)

    Hinton, Neural Networks for Machine Learning, lecture 6e (2012); centered: Graves 2013,
    arXiv:1308.0850, equations 38-45; momentum: torch.optim.RMSprop and, inside the buffer,
    tf.train.RMSPropOptimizer.
    """
    g = gradient(h, p, g)
    keep = 1 - h.lr * h.decoupled - h.lr * h.lr * h.corrected
    scale = 1.0 if spec.cautious else h.update_scale
    d, v, m, b = rmsprop_move(spec, h, h.lr * scale, g, v, m, b)
    if spec.cautious:
        d = choose(d * g > 0, h.update_scale * d, 0.0 * d)
    return keep * p - d, v, m, b


def rmsprop_move(spec: Spec, h, lr, g, v, m=None, b=None):
    """By how much the parameter moves down, and the new buffers."""
    v = mean_square(h, h.alpha, v, g)
    debias = 1 / (1 - h.bias_correction * h.alpha**h.t)
    a = v * debias
    if spec.centered:
        m = h.alpha * or_zero(m, h.tiny) + (1 - h.alpha) * g
        # In this order: inf - inf is no variance.
        a = at_least(a * h.floor, a - square(m * debias, h.least))
    u = g / denominator(spec, h, a)
    if spec.momentum == "none":
        return lr * u, v, m, b
    u = lr * u if spec.lr_in_momentum else u
    b = h.mu * or_zero(b, h.tiny) + u
    d = u + h.mu * b if spec.momentum == "nesterov" else b
    return d if spec.lr_in_momentum else lr * d, v, m, b


def rmsprop_agrees(spec: Spec, h, p, g, v, m=None, b=None):
    """Whether the step goes against the gradient (Liang et al. 2024, arXiv:2411.16085)."""
    g = gradient(h, p, g)
    d = rmsprop_move(spec, h, h.lr, g, v, m, b)[0]
    return d * g > 0


def denominator(spec: Spec, h, a):
    """What the gradient is divided by, from the (corrected, centered) second moment `a`."""
    if spec.eps_place == "outside":
        return sqrt(a) + h.eps
    if spec.eps_place == "inside":
        return sqrt(a + h.eps)
    return at_least(sqrt(a), h.eps)


def rmsprop_size(h, p, g, v):
    """Its mean is the squared size of an update (Shazeer & Stern 2018, arXiv:1804.04235)."""
    return squared_size(h, h.alpha, 1 / (1 - h.bias_correction * h.alpha**h.t), p, g, v)


def sgd(momentum: str, h, p, g, b=None):
    """p = p - lr*g;  with momentum b = mu*b + (1-dampening)*g, p = p - lr*b

    Polyak 1964; Nesterov 1983 in the form of Sutskever et al. 2013; torch.optim.SGD, whose buffer
    begins with the whole first gradient.
    """
    g = gradient(h, p, g)
    if momentum == "none":
        return p - h.lr * g, b
    b = h.mu * or_zero(b, h.tiny) + choose(h.t > 1, 1 - h.dampening, 1.0) * g
    d = g + h.mu * b if momentum == "nesterov" else b
    return p - h.lr * d, b


def adagrad(h, p, g, s):
    """s = s + g^2;  p = p - lr/(1+(t-1)*lr_decay)*g/(sqrt(s)+eps)

    Duchi, Hazan & Singer 2011; torch.optim.Adagrad.
    """
    g = gradient(h, p, g)
    s = or_zero(s, h.tiny) + square(g, h.least)
    lr = h.lr / (1 + (h.t - 1) * h.lr_decay)
    return p - lr * (g / (sqrt(s) + h.eps)), s


def adam(amsgrad: bool, h, p, g, m, v, x=None):
    """m = beta1*m + (1-beta1)*g;  v = beta2*v + (1-beta2)*g^2;  p = p - lr*m'/(sqrt(v')+eps)

    m' and v' are corrected for their start at zero. Kingma & Ba 2015, arXiv:1412.6980; decoupled
    decay: Loshchilov & Hutter 2019, arXiv:1711.05101; AMSGrad, the largest v so far: Reddi et al.
    2018, arXiv:1904.09237; torch.optim.Adam and AdamW.
    """
    g = gradient(h, p, g)
    m = h.beta1 * or_zero(m, h.tiny) + (1 - h.beta1) * g
    v = mean_square(h, h.beta2, v, g)
    a = v
    if amsgrad:
        a = x = at_least(x, v)
    u = m / (sqrt(a) * (1 / sqrt(1 - h.beta2**h.t)) + h.eps)
    lr = h.lr * h.update_scale / (1 - h.beta1**h.t)
    return (1 - h.lr * h.decoupled) * p - lr * u, m, v, x


def adam_size(h, p, g, v):
    """Its mean is the squared size of an update, as in RMSProp."""
    return squared_size(h, h.beta2, 1 / (1 - h.beta2**h.t), p, g, v)


def rprop(h, p, g, prev, size):
    """size*eta+ while g keeps its sign, size*eta- when it turns;  p = p - size*sign(g)

    After a turn the weight rests for one step. Riedmiller & Braun 1993; torch.optim.Rprop.
    """
    g = gradient(h, p, g)
    turn = sign(g) * sign(prev)
    size = size * choose(turn > 0, h.eta_plus, choose(turn < 0, h.eta_minus, 1 + turn))
    size = at_most(at_least(size, h.least_size), h.most_size)
    g = choose(turn < 0, 0.0, g)
    return p - size * sign(g), g, size


def sign_descent(h, p, g):
    """p = p - lr*sign(g)

    The step of RMSProp at alpha = 0. Bernstein et al. 2018, arXiv:1802.04434.
    """
    return (1 - h.lr * h.decoupled) * p - h.lr * sign(gradient(h, p, g))


def sqrt(x):
    if isinstance(x, float):
        return math.sqrt(x) if x >= 0 else math.nan
    return x.sqrt() if hasattr(x, "sqrt") else np.sqrt(x)


def sign(x):
    """1 above zero, -1 below, x itself where it is zero or NaN."""
    return choose(x > 0, 1.0, choose(x < 0, -1.0, x))


def at_least(x, least):
    """The larger of the two; x where either is NaN."""
    return choose(x < least, least, x)


def at_most(x, most):
    """The smaller of the two; x where either is NaN."""
    return choose(x > most, most, x)


def square(x, least=0.0):
    """x*x, or zero where x is smaller than `least` in size."""
    x = or_zero(x, least)
    return x * x


def or_zero(x, least):
    """x, or zero where it is smaller than `least` in size."""
    return x.or_zero(least) if hasattr(x, "or_zero") else choose(abs(x) < least, 0.0, x)


def choose(condition, x, y):
    """x where the condition holds, else y; one of the two is an element, or both are numbers."""
    if isinstance(condition, bool | np.bool_ | float):
        return x if condition else y
    kind = next((value for value in (x, y) if hasattr(value, "dtype")), None)
    if kind is None and hasattr(condition, "dtype"):
        raise TypeError("choose: x or y must be an element where the condition is one, got numbers")
    if kind is None:
        return condition.choose(x, y)
    if isinstance(condition, np.ndarray):
        return np.where(condition, *(np.asarray(value, kind.dtype) for value in (x, y)))
    return kind.where(condition, y) if kind is x else kind.where(~condition, x)
