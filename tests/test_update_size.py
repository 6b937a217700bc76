"""With max_update_rms no update of a tensor is larger than that: the slow way, one by one."""

import numpy as np
import pytest
import torch
from snapshot import tensors
from torch import nn
from twins import SHAPES, copies, distance, kernels_of, layouts, parameters, set_gradients, walk

from meansquare import Adam, AdamW, RMSProp

# Rounding only, relative to the size of the parameter.
TOLERANCE = {
    torch.float32: 1e-5,
    torch.complex64: 1e-5,
    torch.float64: 1e-12,
    torch.complex128: 1e-12,
}
LIMIT = 0.9
CASES = [
    (RMSProp, {"alpha": 0.9}),
    (RMSProp, {"alpha": 0.9, "eps": 0.5, "weight_decay": 0.5}),
    (RMSProp, {"alpha": 0.8, "momentum": 0.9, "maximize": True, "weight_decay": 0.1}),
    (RMSProp, {"alpha": 0.9, "centered": True, "eps": 0.1}),
    (Adam, {"betas": (0.9, 0.7)}),
    (Adam, {"betas": (0.5, 0.9), "weight_decay": 0.5, "maximize": True, "eps": 0.5}),
    (Adam, {"betas": (0.9, 0.7), "amsgrad": True}),
    (Adam, {"betas": (0.9, 0.7), "decoupled_weight_decay": True, "weight_decay": 5.0}),
    (AdamW, {"betas": (0.9, 0.7), "weight_decay": 5.0}),
]
each_case = pytest.mark.parametrize(("kind", "options"), CASES)


class Slow:
    """torch's optimizer of one parameter, whose learning rate is made smaller where R is large."""

    def __init__(self, kind, p, lr, limit, clip=np.inf, **options):
        namesake = torch.optim.RMSprop if kind is RMSProp else torch.optim.Adam
        decay = options.pop("weight_decay", 1e-2 if kind is AdamW else 0.0)
        self.decoupled = options.pop("decoupled_weight_decay", kind is AdamW)
        self.p, self.lr, self.limit, self.decay, self.clip = p, lr, limit, decay, clip
        own = {} if self.decoupled else {"weight_decay": decay}
        self.opt = namesake([p], lr=lr, **own, **options)
        self.sizes = []

    def step(self):
        group, state = self.opt.param_groups[0], self.opt.state[self.p]
        square = "square_avg" if "alpha" in group else "exp_avg_sq"
        keep = group["alpha"] if "alpha" in group else group["betas"][1]
        t = float(state["step"]) + 1 if state else 1
        flat(self.p.grad)[...] = flat(self.p.grad).clip(-self.clip, self.clip)
        g = flat(self.p.grad).astype(np.float64) * (-1 if group["maximize"] else 1)
        g = g + group["weight_decay"] * flat(self.p)
        v = keep * (flat(state[square]) if state else 0) + (1 - keep) * g**2
        v = v / (1 - keep**t) if "betas" in group else v
        if g.size:
            self.sizes.append(np.sqrt(np.mean(g**2 / np.maximum(v, group["eps"] ** 2))))
            group["lr"] = self.lr / max(1.0, self.sizes[-1] / self.limit)
        if self.decoupled:
            flat(self.p)[...] *= 1 - self.lr * self.decay
        self.opt.step()


def flat(t):
    """Its real numbers in its own memory, as NumPy sees them."""
    t = t.detach()
    return (torch.view_as_real(t) if t.is_complex() else t).numpy()


class Tagged(nn.Parameter):
    """What no kernel takes: it is stepped by reference."""


def tagged(p):
    return torch.Tensor._make_subclass(Tagged, p.detach(), True)


def run(ours, slow, steps=20):
    """The same steps for both; of all the updates some are to be too large and some not."""
    for t in range(steps):
        set_gradients(t, parameters(ours), [one.p for one in slow])
        ours.step()
        for one in slow:
            one.step()
    sizes = [size for one in slow for size in one.sizes]
    assert min(sizes) < LIMIT < max(sizes)
    return [one.p for one in slow]


def slowly(kind, params, **options):
    return [Slow(kind, p, 0.01, LIMIT, **options) for p in params]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@each_case
def test_every_update_of_every_layout_is_made_as_small_as_its_size_asks(kind, options, dtype):
    starts = layouts(dtype)
    ours = kind(copies(starts), lr=0.01, max_update_rms=LIMIT, **options)
    assert (
        distance(parameters(ours), run(ours, slowly(kind, starts, **options))) <= TOLERANCE[dtype]
    )


@pytest.mark.parametrize("wrap", [tagged, lambda p: p], ids=["reference", "beside"])
@each_case
def test_a_parameter_stepped_by_reference_is_limited_alike(kind, options, wrap):
    starts = layouts(torch.float64)
    ours = kind(
        [wrap(p) for p in copies(starts)] + [tagged(copies(starts)[4])],
        lr=0.01,
        max_update_rms=LIMIT,
        **options,
    )
    slow = slowly(kind, [*starts, copies(starts)[4]], **options)
    theirs = run(ours, slow)
    assert "reference" in kernels_of(ours)
    plain = [p.detach().as_subclass(torch.Tensor) for p in parameters(ours)]
    assert distance(plain, theirs) <= TOLERANCE[torch.float64]


@each_case
def test_differentiable_steps_are_limited_alike(kind, options):
    starts = layouts(torch.float64)
    limits = {"lr": 0.01, "max_update_rms": LIMIT, "differentiable": True}
    ours = kind([p.detach().clone() for p in starts], **limits, **options)
    assert distance(parameters(ours), run(ours, slowly(kind, starts, **options))) <= 1e-12


@each_case
def test_overlapping_parameters_are_limited_in_their_order(kind, options):
    def overlapping():
        source = torch.Generator().manual_seed(0)
        base = torch.randn(12, generator=source, dtype=torch.float64)
        return [nn.Parameter(base[:8]), nn.Parameter(base[4:]), nn.Parameter(base.view(3, 4).t())]

    ours = kind(overlapping(), lr=0.01, max_update_rms=LIMIT, **options)
    theirs = run(ours, slowly(kind, overlapping(), **options))
    assert distance(parameters(ours), theirs) <= TOLERANCE[torch.float64]


@each_case
def test_the_size_is_that_of_the_clipped_gradient(kind, options):
    starts = layouts(torch.float64)
    limits = {"lr": 0.01, "max_update_rms": LIMIT, "clip_value": 0.6}
    ours = kind(copies(starts), **limits, **options)
    slow = slowly(kind, starts, clip=0.6, **options)
    assert distance(parameters(ours), run(ours, slow)) <= TOLERANCE[torch.float64]


@pytest.mark.parametrize("eps_place", ["outside", "max"])
def test_the_size_is_that_of_the_corrected_average(eps_place):
    p = nn.Parameter(torch.linspace(-1, 1, 9, dtype=torch.float64))
    opt = RMSProp(
        [p], 0.01, 0.9, 0.3, max_update_rms=LIMIT, bias_correction=True, eps_place=eps_place
    )
    w, v = p.detach().numpy().copy(), np.zeros(9)
    for t in range(1, 30):
        set_gradients(t, [p])
        g = flat(p.grad)
        v = 0.9 * v + 0.1 * g**2
        a = v / (1 - 0.9**t)
        size = np.sqrt(np.mean(g**2 / np.maximum(a, 0.3**2)))
        root = np.sqrt(a)
        root = root + 0.3 if eps_place == "outside" else np.maximum(root, 0.3)
        w -= 0.01 / max(1.0, size / LIMIT) * g / root
        opt.step()
    np.testing.assert_allclose(flat(p), w, rtol=1e-12)


def test_decoupled_decay_is_not_made_smaller():
    for decay in (
        {"weight_decay_mode": "decoupled"},
        {"weight_decay_mode": "corrected", "reference_lr": 0.5},
    ):
        p = nn.Parameter(torch.ones(4, dtype=torch.float64))
        opt = RMSProp([p], lr=0.5, weight_decay=0.1, max_update_rms=1e-9, **decay)
        p.grad = torch.ones_like(p)
        opt.step()
        # 1e-8: the step itself, held to 1e-9 of its size.
        np.testing.assert_allclose(flat(p), 0.95, rtol=1e-8)


SIGNS = {"alpha": 0, "eps": 0}  # g*g over its own square: the size is 1, whatever g is


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("wrap", [lambda p: p, tagged], ids=["kernel", "reference"])
@pytest.mark.parametrize("layout", SHAPES)
def test_half_the_size_is_half_the_learning_rate_to_the_bit(layout, wrap, dtype):
    def start():
        p = dict(zip(SHAPES, layouts(), strict=True))[layout].detach()
        half = torch.empty_strided(p.shape, p.stride(), dtype=dtype).copy_(p)
        return [nn.Parameter(torch.ones(3)), wrap(nn.Parameter(half))]

    limited = RMSProp(start(), lr=2**-6, max_update_rms=0.5, seed=3, **SIGNS)
    plain = RMSProp(start(), lr=2**-7, seed=3, **SIGNS)
    for t in range(5):
        for opt in (limited, plain):
            source = torch.Generator().manual_seed(t)
            for p in parameters(opt):  # whose square and root are exact
                p.grad = (2.0 ** torch.randint(-6, 6, p.shape, generator=source)).to(dtype=p.dtype)
            opt.step()
    assert all(map(torch.equal, tensors(limited), tensors(plain)))


@each_case
def test_updates_below_the_limit_are_as_without_to_the_bit(kind, options):
    starts = [*layouts(), *(nn.Parameter(p.detach().bfloat16()) for p in layouts())]
    ours, plain = kind(copies(starts), max_update_rms=1e3, **options), kind(starts, **options)
    walk((ours, plain), 5)
    assert all(map(torch.equal, tensors(ours), tensors(plain)))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("wrap", [lambda p: p, tagged], ids=["kernel", "reference"])
@pytest.mark.parametrize("kind", [RMSProp, Adam, AdamW])
def test_a_gradient_that_is_not_finite_spoils_no_weight_but_its_own(kind, wrap, bad):
    limited, plain = (
        kind([wrap(nn.Parameter(torch.ones(4))), nn.Parameter(torch.ones(2))], **limits)
        for limits in ({"max_update_rms": 0.5}, {})
    )
    for opt in (limited, plain):
        p, q = parameters(opt)
        p.grad, q.grad = torch.tensor([1.0, bad, -3.0, 0.0]), torch.ones(2)
        opt.step()
    (p, q), (plain_p, plain_q) = (parameters(opt) for opt in (limited, plain))
    assert p.isnan().tolist() == plain_p.isnan().tolist() == [False, True, False, False]
    assert torch.equal(p.nan_to_num(), plain_p.nan_to_num())
    assert (1 - q < 1 - plain_q).all()
