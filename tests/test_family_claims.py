"""docs/family.md, what follows: each claim has a test of its name, which shows its figures."""

import inspect
import itertools
import math
import re
import sys

import page
import pytest
import torch
from page import moves
from torch import nn

from meansquare import SGD, AdaGrad, Adam, AdamW, RMSProp, Rprop, SignSGD

CLAIMS = {page.anchor(heading): text for heading, text in page.claims_of_the_page().items()}
TOGETHER = 1e-14  # two orders of the same operations in float64, on paths of about 1


@pytest.fixture
def said(request):
    """The figures of the test's claim, as the page writes them."""
    name = request.node.name.removeprefix("test_").replace("_", "-")
    return re.findall(r"\*\*(.*?)\*\*", CLAIMS[name])


def like(said, *measured):
    """Measured numbers, written as the page writes its own."""
    pairs = zip(said, measured, strict=True)
    return [as_written(text, x) for text, x in pairs]


def as_written(text, x):
    """A number with as many digits behind the point as a text has, and as it is with an exponent.

    >>> as_written("7.1e-05", 0.00007149), as_written("10", 9.99)
    ('7.1e-05', '10')
    """
    number, _, exponent = text.partition("e")
    return f"{x:.{len(number.partition('.')[2])}{'e' if exponent else 'f'}}"


def random_gradients(n):
    return torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()


def path(kind, gradients, start=0.0, change=lambda t: {}, **options):
    """Where a weight is after each of some gradients; `change` sets options before a step."""
    p = nn.Parameter(torch.full((1,), start, dtype=torch.float64))
    opt, places = kind([p], **options), []
    for t, g in enumerate(gradients, 1):
        opt.param_groups[0].update(change(t))
        p.grad = torch.full_like(p, g)
        opt.step()
        places.append(p.item())
    return places


def descent(kind, curvatures, steps, start=1.0, **options):
    """The path of weights down the sum of curvature*p*p/2."""
    h = torch.tensor(curvatures, dtype=torch.float64)
    p = nn.Parameter(torch.full_like(h, start))
    opt, places = kind([p], **options), []
    for _ in range(steps):
        p.grad = h * p.detach()
        opt.step()
        places.append(p.detach().clone())
    return torch.stack(places)


def apart(these, those):
    """How far two paths are from each other where they are farthest."""
    return max(abs(x - y) for x, y in zip(these, those, strict=True))


def steps(kind, gradients, **options):
    """How far one weight goes at each step, in learning rates and without eps."""
    options = {"lr": 1.0, "eps": 0.0} | options
    options = {key: value for key, value in options.items() if key in kind._kind.names()}
    return moves(kind, [[g] for g in gradients], **options)[:, 0].tolist()


def test_rmsprop_without_memory_is_sign_descent(said):
    gradients = random_gradients(100)
    rmsprop = path(RMSProp, gradients, lr=0.1, alpha=0.0, eps=0.0)
    assert said == like(said, apart(rmsprop, path(SignSGD, gradients, lr=0.1)))


def test_rmsprop_that_remembers_everything_is_adagrad(said):
    def change(t):
        return {"alpha": 1 - 1 / t, "lr": 0.1 / math.sqrt(t)}

    gradients = random_gradients(1000)
    adagrad = path(AdaGrad, gradients, lr=0.1, eps=0.0)
    assert said == [f"{TOGETHER:.0e}"]
    assert apart(path(RMSProp, gradients, change=change, eps=0.0), adagrad) < TOGETHER


def test_rmsprop_with_a_large_eps_is_gradient_descent(said):
    gradients, shares = random_gradients(100), []
    for momentum, eps in itertools.product((0.0, 0.9), (1e2, 1e4, 1e8)):
        sgd = path(SGD, gradients, lr=0.1, momentum=momentum)
        rmsprop = path(RMSProp, gradients, lr=0.1 * eps, eps=eps, momentum=momentum)
        shares.append(apart(sgd, rmsprop) / max(map(abs, sgd)))
    assert said == like(said, *shares)


def test_adam_without_its_first_average_is_corrected_rmsprop(said):
    gradients = random_gradients(100)
    rmsprop = path(RMSProp, gradients, lr=0.1, alpha=0.99, bias_correction=True)
    assert said == [f"{TOGETHER:.0e}"]
    assert apart(path(Adam, gradients, lr=0.1, betas=(0.0, 0.99)), rmsprop) < TOGETHER


def test_rmsprop_takes_a_first_step_ten_times_as_long_as_adam_does(said):
    for g in (1e-5, 3.0, 1e5):
        rmsprop, short = steps(RMSProp, [g]) + steps(RMSProp, [g], alpha=0.9)
        (adam,), (adagrad,), (corrected,) = (
            steps(kind, [g], **options)
            for kind, options in ((Adam, {}), (AdaGrad, {}), (RMSProp, {"bias_correction": True}))
        )
        assert adam == pytest.approx(adagrad) == pytest.approx(corrected)
        assert said == like(said, rmsprop, adam, short)


def test_adagrad_slows_down_where_rmsprop_keeps_its_pace(said):
    adagrad, rmsprop = (steps(kind, [3.0] * 10_000) for kind in (AdaGrad, RMSProp))
    assert said == like(said, adagrad[99], adagrad[-1], rmsprop[99], rmsprop[-1])


def test_the_scale_of_the_loss_leaves_adaptive_steps_as_they_are(said):
    def changes(kind):
        paths = (descent(kind, [x, 100 * x], 100, lr=1e-3, eps=0.0) for x in (1.0, 1024.0))
        return torch.dist(*paths).item()

    (small,), (large,) = (steps(SGD, [x]) for x in (1.0, 1024.0))
    assert {changes(kind) for kind in (RMSProp, AdaGrad, Adam)} == {0.0}
    assert said == like(said, 0.0, large / small)


def test_rmsprop_forgets_a_large_gradient_and_adagrad_does_not(said):
    def after(kind, **options):
        return steps(kind, [1.0] * 10_000 + [1e-3] * 20_001, **options)[10_000:]

    def until_half(far):
        return 1 + max(i for i, step in enumerate(far, 1) if step < 0.5)

    rmsprop, short, adam = after(RMSProp), after(RMSProp, alpha=0.9), after(Adam)
    halves = [until_half(far) for far in (rmsprop, short, adam)]
    adagrad = after(AdaGrad)
    assert said == like(said, rmsprop[0], *halves, adagrad[0])
    assert like(said[-1:], adagrad[-1]) == said[-1:]
    assert halves[0] == math.ceil(math.log(1e6 / 3) / -math.log(0.99))


def test_momentum_crosses_a_ravine_that_holds_gradient_descent_up(said):
    large = 100.0  # the rates of Lessard, Recht & Packard 2016, table 1, for curvatures 1 and 100
    root, other = math.sqrt(large), math.sqrt(3 * large + 1)
    best = (
        {"lr": 2 / (large + 1)},
        {"lr": 4 / (3 * large + 1), "momentum": (other - 2) / (other + 2), "nesterov": True},
        {"lr": 4 / (root + 1) ** 2, "momentum": ((root - 1) / (root + 1)) ** 2},
    )
    far = (descent(SGD, [1.0, large], 1000, **options).norm(dim=1) for options in best)
    after = (torch.arange(1, 1001)[x >= 1e-6].max().item() + 1 for x in far)
    assert said == like(said, *after)


def test_rmsprop_swings_about_a_minimum_until_its_learning_rate_falls(said):
    swinging, resting = (descent(RMSProp, [1.0], 5000, lr=0.01, eps=x)[:, 0] for x in (1e-3, 6e-3))
    assert swinging[-1] * swinging[-2] < 0
    assert said == like(said, *(x[-2:].abs().max().item() for x in (swinging, resting)))


def test_mini_batches_cancel_out_in_rmsprop_and_not_in_sign_descent(said):
    rounds = ([0.1] * 9 + [-0.9]) * 1000
    tens = [abs(sum(steps(kind, rounds)[-10:])) for kind in (SGD, SignSGD, RMSProp)]
    longest = max(map(abs, steps(Rprop, rounds, lr=0.01)))
    assert said == like(said, *tens, longest)


def test_adam_divides_its_weight_decay_away_and_adamw_does_not(said):
    def added(kind, g):
        first = [
            moves(kind, [[g]], start=1.0, lr=1e-3, weight_decay=decay).item() for decay in (0, 0.1)
        ]
        return abs(first[1] - first[0])

    for g in (1.0, 100.0):
        assert said == like(said, added(Adam, g), added(AdamW, g))


def test_adams_longest_step_is_on_a_rising_gradient(said):
    spike = [1e-9] * 10_000 + [1.0]
    rising = [1e-9] * 10_000 + [1e-6 * (0.999 / 0.9) ** i for i in range(100)]
    assert said == like(said, *(max(steps(Adam, gradients)) for gradients in (spike, rising)))


def test_amsgrad_ends_where_adam_goes_astray(said):
    def end(amsgrad):
        p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        opt = Adam([p], betas=(0.0, 0.1), amsgrad=amsgrad)
        for t in range(1, 3001):
            opt.param_groups[0]["lr"] = 0.5 / math.sqrt(t)
            p.grad = torch.full_like(p, 3.0 if t % 3 == 1 else -1.0)
            opt.step()
            p.data.clamp_(-1, 1)
        return p.item()

    assert said == like(said, end(False), end(True))


def test_every_claim_has_a_test_of_its_name_and_every_test_a_claim():
    tests = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    taking = [name for name, test in tests if "said" in inspect.signature(test).parameters]
    claims = {f"test_{claim.replace('-', '_')}" for claim in CLAIMS}
    assert claims == {name for name in taking if name.startswith("test_")}


def test_a_claim_has_no_figure_that_is_neither_shown_nor_a_setting():
    shown_or_set = r"\*\*.*?\*\*|`.*?`|et al\. \d{4}|& [A-Z]\w+ \d{4}|\(Hinton\s\d{4}\)"
    for claim, text in CLAIMS.items():
        assert not re.search(r"\d", re.sub(shown_or_set, "", text)), claim
