"""Every namesake of torch's takes its arguments and gives its trajectory."""

import inspect
import itertools

import pytest
import torch
from members import NAMESAKES, words
from torch.optim import lr_scheduler
from twins import apart, distance, layers, layouts, pair, parameters, set_gradients, walk

from meansquare import SGD, AdaGrad, Adam, AdamW, Rprop, SignSGD

STEPS = 200
# Rounding only: torch multiplies, adds and divides in another order, and its sqrt is not correctly
# rounded. Relative to the size of the parameter.
TOLERANCE = {
    torch.float32: 2e-6,
    torch.complex64: 2e-6,
    torch.float64: 1e-13,
    torch.complex128: 1e-13,
}
FLOAT32 = TOLERANCE[torch.float32]

SETTINGS = [
    (SGD, {}),
    (SGD, {"momentum": 0.9}),
    (SGD, {"momentum": 0.9, "dampening": 0.5}),
    (SGD, {"momentum": 0.9, "nesterov": True}),
    (AdaGrad, {}),
    (AdaGrad, {"lr_decay": 0.1}),
    (AdaGrad, {"initial_accumulator_value": 0.3, "eps": 1e-3}),
    (Adam, {}),
    (Adam, {"amsgrad": True}),
    (Adam, {"decoupled_weight_decay": True, "betas": (0.5, 0.9)}),
    (Adam, {"amsgrad": True, "decoupled_weight_decay": True, "eps": 1e-3}),
    (AdamW, {}),
    (AdamW, {"amsgrad": True, "betas": (0.0, 0.0)}),
    (Rprop, {}),
    (Rprop, {"etas": (0.4, 1.3)}),
    (Rprop, {"step_sizes": (1e-3, 1e-2), "lr": 0.1}),
]
DECAYS = [
    {"weight_decay": decay, "maximize": maximize}
    for decay, maximize in itertools.product((0, 0.1), (False, True))
]


def combined(decays):
    """Every member's settings with each decay; Rprop takes none."""
    cases = [
        (kind, options | {n: v for n, v in decay.items() if kind is not Rprop or n == "maximize"})
        for (kind, options), decay in itertools.product(SETTINGS, decays)
    ]
    return [pytest.param(kind, options, id=words(kind, options)) for kind, options in cases]


def allowed(kind, dtype=torch.float32):
    """Rprop's sizes are the same products in the same order: not a bit differs."""
    return 0 if kind is Rprop else TOLERANCE[dtype]


def twins(kind, params, make=None, **options):
    return pair(params, make, (kind, NAMESAKES[kind]), **options)


@pytest.mark.parametrize("kind", NAMESAKES)
def test_the_arguments_of_torch_come_in_its_order_with_its_defaults(kind):
    ours = list(inspect.signature(kind).parameters.values())
    theirs = list(inspect.signature(NAMESAKES[kind]).parameters.values())
    assert [(p.name, p.default, p.kind) for p in ours[: len(theirs)]] == [
        (p.name, p.default, p.kind) for p in theirs
    ]
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :])


def test_sign_descent_takes_the_arguments_that_it_shares_with_sgd():
    ours, theirs = (inspect.signature(kind).parameters for kind in (SignSGD, torch.optim.SGD))
    shared = [name for name in ours if name in theirs]
    assert [ours[name] for name in shared] == [
        theirs[name].replace(annotation=ours[name].annotation) for name in shared
    ]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("kind", "options"), combined((DECAYS[0], DECAYS[-1])))
def test_every_member_in_every_layout_gives_torchs_trajectory(kind, options, dtype):
    opts = twins(kind, layouts(dtype), **options)
    walk(opts, STEPS)
    assert apart(opts) <= allowed(kind, dtype)


@pytest.mark.parametrize(("kind", "options"), combined(DECAYS[1:3]))
def test_decay_alone_and_ascent_alone_give_torchs_trajectory(kind, options):
    opts = twins(kind, layouts(), **options)
    walk(opts, 50)
    assert apart(opts) <= allowed(kind)


@pytest.mark.parametrize("kind", NAMESAKES)
@pytest.mark.parametrize("foreach", [True, False])
def test_foreach_is_accepted_and_gives_the_trajectory_of_torchs(kind, foreach):
    opts = twins(kind, layouts(), foreach=foreach)
    walk(opts, 50)
    assert apart(opts) <= allowed(kind)


GROUPS = {
    SGD: [
        {"momentum": 0.9, "weight_decay": 0.01},
        {"lr": 1e-2, "nesterov": True, "momentum": 0.5},
        {"momentum": 0.5, "dampening": 0.9, "maximize": True},
    ],
    AdaGrad: [{"lr": 0.1, "lr_decay": 0.5}, {"eps": 0.1, "weight_decay": 0.1}, {"maximize": True}],
    Adam: [
        {"amsgrad": True, "weight_decay": 0.1},
        {"betas": (0.5, 0.5), "maximize": True},
        {"decoupled_weight_decay": True, "weight_decay": 0.1, "eps": 1e-3},
    ],
    AdamW: [{"amsgrad": True}, {"weight_decay": 0.5, "maximize": True}, {"betas": (0.0, 0.5)}],
    Rprop: [{"etas": (0.1, 1.1)}, {"step_sizes": (0.0, 1e-3)}, {"lr": 1e-4, "maximize": True}],
}


@pytest.mark.parametrize("kind", NAMESAKES)
def test_groups_with_different_settings_give_torchs_trajectory(kind):
    def in_groups(kind_, params):
        each = [{}, *GROUPS[kind]]
        return kind_([{"params": params[i::4], **options} for i, options in enumerate(each)])

    opts = twins(kind, [*layouts(), *layouts(torch.float64), *layouts(torch.complex64)], in_groups)
    walk(opts, 50)
    assert apart(opts) <= allowed(kind)


@pytest.mark.parametrize("kind", NAMESAKES)
@pytest.mark.parametrize(
    "lr", [torch.tensor(1e-3), torch.tensor([1e-3], dtype=torch.float64)], ids=str
)
def test_a_tensor_lr_is_read_anew_in_each_step(kind, lr):
    opts = twins(kind, layouts(), lambda kind_, own: kind_(own, lr=lr.clone()))
    for t, factor in enumerate((1.0, 10.0, 1e-3, 0.1)):
        for opt in opts:
            opt.param_groups[0]["lr"].mul_(factor)
        walk(opts, 10, first=10 * t)
    assert apart(opts) <= allowed(kind)


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_tensor_betas_are_read_anew_in_each_step(kind):
    def make(kind_, own):
        return kind_(own, betas=(torch.tensor(0.9), torch.tensor(0.99)))

    opts = twins(kind, layouts(), make)
    for t, value in enumerate((0.8, 0.5, 0.9)):
        for opt in opts:
            opt.param_groups[0]["betas"][t % 2].fill_(value)
        walk(opts, 10, first=10 * t)
    # torch averages by these betas in float32, and we by their values in float64.
    assert apart(opts) <= 10 * FLOAT32


PAIRS = [(Adam, "betas", [0.9, 0.99]), (AdamW, "betas", [0.9, 0.99]), (Rprop, "etas", [0.5, 1.2])]


@pytest.mark.parametrize(("kind", "name", "value"), PAIRS)
def test_a_pair_that_changes_in_place_is_read_anew(kind, name, value):
    opts = twins(kind, layouts())
    for opt in opts:
        opt.param_groups[0][name] = list(value)
    walk(opts, 5)
    for opt in opts:
        opt.param_groups[0][name][0] /= 2
    walk(opts, 5, first=5)
    assert apart(opts) <= allowed(kind)


def one_cycle(opt):
    return lr_scheduler.OneCycleLR(opt, 1e-2, total_steps=61)


def falling(opt):
    return lr_scheduler.StepLR(opt, 7, 0.5)


SCHEDULED = [
    (SGD, {"momentum": 0.9}, one_cycle, {"lr", "momentum"}),
    (SGD, {"momentum": 0.9, "nesterov": True}, one_cycle, {"lr", "momentum"}),
    (Adam, {}, one_cycle, {"lr", "betas"}),
    (Adam, {"amsgrad": True}, one_cycle, {"lr", "betas"}),
    (AdamW, {}, one_cycle, {"lr", "betas"}),
    *((kind, {}, falling, {"lr"}) for kind in NAMESAKES),
]


@pytest.mark.parametrize(("kind", "options", "scheduler", "changed"), SCHEDULED)
def test_a_scheduler_of_lr_and_momentum_gives_torchs_trajectory(kind, options, scheduler, changed):
    opts = twins(kind, layouts(), **options)
    schedulers = [scheduler(opt) for opt in opts]
    for t in range(60):
        walk(opts, 1, first=t)
        for each in schedulers:
            each.step()
    assert apart(opts) <= allowed(kind)
    ours, theirs = (opt.param_groups[0] for opt in opts)
    assert all(ours[name] == theirs[name] for name in theirs if name != "params")
    assert changed == {name for name, value in opts[0].defaults.items() if value != ours[name]}


@pytest.mark.parametrize(("kind", "options"), combined(DECAYS[:1]))
def test_parameters_without_a_gradient_wait_until_they_have_one(kind, options):
    opts = twins(kind, layouts(), **options)
    for t in range(40):
        set_gradients(t, *map(parameters, opts))
        for opt in opts:
            for i, p in enumerate(parameters(opt)):
                p.grad = p.grad if (t + i) % 3 and t > 2 * i else None
            opt.step()
    assert apart(opts) <= allowed(kind)


@pytest.mark.parametrize("dampening", [0, 0.5])
@pytest.mark.parametrize("first", [0, 0.9])
def test_momentum_switches_off_and_on_as_in_torch(first, dampening):
    opts = twins(SGD, layouts(), lr=1e-2, momentum=first, dampening=dampening)
    for t, momentum in enumerate((first, 0, 0.9, 0, 0.5)):
        for opt in opts:
            opt.param_groups[0]["momentum"] = momentum
        walk(opts, 5, first=5 * t)
    assert apart(opts) <= FLOAT32


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_amsgrad_switches_off_and_on_as_in_torch(kind):
    opts = twins(kind, layouts(), amsgrad=True)
    for t, amsgrad in enumerate((True, False, True)):
        for opt in opts:
            opt.param_groups[0]["amsgrad"] = amsgrad
        walk(opts, 20, first=20 * t)
    assert apart(opts) <= FLOAT32


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_amsgrad_that_torch_cannot_switch_on_in_mid_run_starts_from_zero(kind):
    opts = twins(kind, layouts())
    walk(opts, 10)
    for opt in opts:
        opt.param_groups[0]["amsgrad"] = True
    with pytest.raises(KeyError, match="max_exp_avg_sq"):
        opts[1].step()
    for p in parameters(opts[1]):
        opts[1].state[p]["max_exp_avg_sq"] = torch.zeros_like(p)
    walk(opts, 50, first=10)
    assert apart(opts) <= FLOAT32


@pytest.mark.parametrize("kind", NAMESAKES)
def test_closures_run_with_gradients_on_and_their_loss_comes_back(kind):
    models, x = (layers(), layers()), torch.ones(3, 4)
    kinds = kind, NAMESAKES[kind]
    pairs = [(m, k(m.parameters(), lr=1e-2)) for m, k in zip(models, kinds, strict=True)]

    def closure_of(model, opt):
        def closure():
            opt.zero_grad()
            loss = model(x).square().sum()
            loss.backward()
            return loss

        return closure

    for _ in range(5):
        with torch.no_grad():
            ours, theirs = (opt.step(closure_of(model, opt)) for model, opt in pairs)
        # The rounding of five steps comes back through the gradients.
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)
    assert distance(*(list(model.parameters()) for model in models)) <= 1e-4
