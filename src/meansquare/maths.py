"""A step of RMSProp as one line of maths, from its settings."""

from collections.abc import Iterator

from meansquare.family import RMSPropHyper
from meansquare.hyper import LEAST_SHARE


def maths(hyper: RMSPropHyper) -> str:
    """The step that these settings ask for, as statements in the letters of the rule.

    `g` gradient (`G` all of them), `p` parameter, `v` mean of g^2, `m` mean of g, `b` momentum
    buffer, `t` number of the step, 1 for the first; `mean` goes over a tensor. What these settings
    do not use is not in the line. In float64 the variance is held above 2**-49*v.

    >>> print(maths(RMSPropHyper()))
    v = alpha*v + (1-alpha)*g*g;  p = p - lr*g/(sqrt(v) + eps)
    """
    statements = (*_gradient(hyper), *_averages(hyper), *_move(hyper))
    first = hyper.initial_square_avg
    return ";  ".join(statements) + (f"  (v begins at {first:g})" if first else "")


def _gradient(hyper: RMSPropHyper) -> Iterator[str]:
    if hyper.maximize:
        yield "g = -g"
    if hyper.max_grad_norm is not None:
        norm = "(norm(G) + grad_norm_eps)" if hyper.grad_norm_eps else "norm(G)"
        yield f"g = g*min(1, max_grad_norm/{norm})"
    if hyper.clip_value is not None:
        yield "g = clip(g, -clip_value, clip_value)"
    if hyper.weight_decay and hyper.weight_decay_mode == "l2":
        yield "g = g + weight_decay*p"


def _averages(hyper: RMSPropHyper) -> Iterator[str]:
    yield "v = alpha*v + (1-alpha)*g*g"
    if hyper.centered:
        yield "m = alpha*m + (1-alpha)*g"
    if hyper.bias_correction:
        yield "c = 1 - alpha**t"
    if hyper.max_update_rms is not None:
        yield f"k = max(1, sqrt(mean(g*g/max({_v(hyper)}, eps*eps)))/max_update_rms)"


def _v(hyper: RMSPropHyper) -> str:
    return "v/c" if hyper.bias_correction else "v"


def _move(hyper: RMSPropHyper) -> Iterator[str]:
    spec, lr, u = hyper.spec, _lr(hyper), f"g/{_denominator(hyper)}"
    if spec.momentum == "none":
        yield f"p = {_kept(hyper)} - {lr}*{u}"
        return
    u = f"{lr}*{u}" if spec.lr_in_momentum else u
    if spec.momentum == "nesterov":
        yield f"u = {u}"
    yield f"b = mu*b + {'u' if spec.momentum == 'nesterov' else u}"
    d = "(u + mu*b)" if spec.momentum == "nesterov" else "b"
    d = d if spec.lr_in_momentum else f"{lr}*{d}"
    if spec.cautious:
        yield f"d = {d}"
        d = f"d*(d*g > 0)/max(mean(d*g > 0), {LEAST_SHARE:g})"
    yield f"p = {_kept(hyper)} - {d}"


def _lr(hyper: RMSPropHyper) -> str:
    return "lr" if hyper.max_update_rms is None else "lr/k"


def _denominator(hyper: RMSPropHyper) -> str:
    a = v = _v(hyper)
    if hyper.centered:
        a = f"max({v} - {'(m/c)**2' if hyper.bias_correction else 'm*m'}, 2**-20*{v})"
    places = {
        "outside": f"(sqrt({a}) + eps)",
        "inside": f"sqrt({a} + eps)",
        "max": f"max(sqrt({a}), eps)",
    }
    return places[hyper.spec.eps_place]


def _kept(hyper: RMSPropHyper) -> str:
    """What is left of the parameter by a decay that is not part of the gradient."""
    if not hyper.weight_decay or hyper.weight_decay_mode == "l2":
        return "p"
    is_corrected = hyper.weight_decay_mode == "corrected" and hyper.reference_lr
    return f"(1 - {'lr*lr/reference_lr' if is_corrected else 'lr'}*weight_decay)*p"
