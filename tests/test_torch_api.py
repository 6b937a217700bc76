"""What torch.optim.Optimizer promises its users: schedulers, closures, groups, averaging."""

import gc
import warnings

import pytest
import torch
from torch import nn
from torch.optim import swa_utils
from twins import (
    apart,
    copies,
    distance,
    gradient_of,
    layouts,
    pair,
    parameters,
    set_gradients,
    walk,
)

from meansquare import SGD, AdaGrad, Adam, RMSProp, Rprop, SignSGD

ROUNDING = 1e-5  # relative, of some 60 steps in float32


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}], ids=str)
def test_zero_grad_forgets_or_zeroes(options):
    opt = RMSProp(layouts(), **options)
    set_gradients(0, parameters(opt))
    opt.zero_grad(set_to_none=False)
    assert not any(gradient_of(p).any() for p in parameters(opt))
    opt.zero_grad()
    assert all(p.grad is None for p in parameters(opt))
    before = [p.detach().clone() for p in parameters(opt)]
    opt.step()
    assert distance(parameters(opt), before) == 0
    assert not opt.state


def network():
    torch.manual_seed(0)
    # No bias before the normalisation: its gradient would be nothing but rounding.
    return nn.Sequential(
        nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 2)
    )


def batches(n):
    source = torch.Generator().manual_seed(1)
    return [torch.randn(32, 8, generator=source) for _ in range(n)]


def closure_of(model, opt, x):
    def closure():
        opt.zero_grad()
        loss = (model(x)[:, 0] - x.sum(1)).square().mean()
        loss.backward()
        return loss

    return closure


def test_closures_run_with_gradients_on_and_their_loss_comes_back():
    models = network(), network()
    opts = [
        kind(m.parameters(), lr=1e-3)
        for kind, m in zip((RMSProp, torch.optim.RMSprop), models, strict=True)
    ]
    for x in batches(30):
        with torch.no_grad():
            ours, theirs = (
                opt.step(closure_of(m, opt, x)) for m, opt in zip(models, opts, strict=True)
            )
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)
    # A trained network feeds rounding back into its gradients.
    assert distance(*(list(m.parameters()) for m in models)) <= 1e-4


def test_an_error_in_a_closure_comes_through_and_changes_nothing():
    opt = RMSProp(layouts())
    walk((opt,), 1)
    before = [p.detach().clone() for p in parameters(opt)]

    def fail():
        raise OSError("no data")

    with pytest.raises(OSError, match="no data"):
        opt.step(fail)
    assert distance(parameters(opt), before) == 0
    assert {float(s["step"]) for s in opt.state.values()} == {1.0}


def test_groups_and_parameters_added_in_mid_run_give_torchs_trajectory():
    later = layouts(seed=1)
    opts = pair(layouts(), lr=1e-3, momentum=0.9)
    walk(opts, 5)
    for opt, own in zip(opts, (later, copies(later)), strict=True):
        opt.add_param_group({"params": own[:5], "lr": 2e-3, "momentum": 0})
        walk((opt,), 5, first=5)
        opt.param_groups[0]["params"].extend(own[5:])
    walk(opts, 20, first=10)
    for opt in opts:
        opt.param_groups.pop()
    walk(opts, 5, first=30)
    assert apart(opts) <= ROUNDING


def test_a_parameter_put_in_place_of_another_starts_afresh():
    opts = pair(layouts(), lr=1e-3, momentum=0.9)
    walk(opts, 5)
    for opt in opts:
        own = opt.param_groups[0]["params"]
        own[3] = nn.Parameter(own[3].detach() * 2)
    walk(opts, 5, first=5)
    assert apart(opts) <= ROUNDING
    assert opts[0].state[parameters(opts[0])[3]]["step"] == 5


def test_params_in_a_tuple_are_stepped_too():
    opts = pair(layouts(), lr=1e-3)
    for opt in opts:
        opt.param_groups[0]["params"] = tuple(opt.param_groups[0]["params"])
    walk(opts, 5)
    assert apart(opts) <= ROUNDING


def test_frozen_and_unfrozen_layers_give_torchs_trajectory():
    models = network(), network()
    opts = [
        kind(m.parameters(), lr=1e-3, momentum=0.9)
        for kind, m in zip((RMSProp, torch.optim.RMSprop), models, strict=True)
    ]
    for t, x in enumerate(batches(30)):
        for model, opt in zip(models, opts, strict=True):
            model[0].requires_grad_(t % 10 >= 5)
            opt.step(closure_of(model, opt, x))
    assert distance(*(list(m.parameters()) for m in models)) <= 1e-4  # as above


def test_a_lazy_layer_is_stepped_from_when_it_has_a_shape():
    models = [nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1)) for _ in range(2)]
    opts = RMSProp(models[0].parameters()), torch.optim.RMSprop(models[1].parameters())
    for opt in opts:
        opt.step()
    for model in models:
        model(torch.ones(1, 2))
    models[1].load_state_dict(models[0].state_dict())
    walk(opts, 5)
    assert apart(opts) <= ROUNDING


def test_weight_averaging_and_its_schedule_give_torchs_averages():
    models = network(), network()
    opts = [
        kind(m.parameters()) for kind, m in zip((RMSProp, torch.optim.RMSprop), models, strict=True)
    ]
    averages = [swa_utils.AveragedModel(m) for m in models]
    schedulers = [swa_utils.SWALR(opt, swa_lr=1e-3, anneal_epochs=5) for opt in opts]
    for x in batches(20):
        for model, opt, average, scheduler in zip(models, opts, averages, schedulers, strict=True):
            opt.step(closure_of(model, opt, x))
            average.update_parameters(model)
            scheduler.step()
    for average in averages:
        swa_utils.update_bn(batches(4), average)
    for ours, theirs in zip(*(a.state_dict().values() for a in averages), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5)  # batch statistics of 20 steps


def test_an_optimizer_of_averaged_weights_sees_them_move():
    model = network()
    average = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
    opt = RMSProp(model.parameters())
    for x in batches(3):
        opt.step(closure_of(model, opt, x))
        average.update_parameters(model)
    assert all(p.isfinite().all() for p in average.parameters())
    assert average.n_averaged == 3


def test_a_grad_scaler_steps_and_skips_as_with_torch():
    def train(kind):
        model = network()
        opt, scaler = (
            kind(model.parameters(), lr=1e-3),
            torch.amp.GradScaler("cpu", init_scale=2.0**10),
        )
        for t, x in enumerate(batches(6)):
            opt.zero_grad()
            loss = (model(x)[:, 0] - x.sum(1)).square().mean() * (torch.inf if t == 2 else 1.0)
            scaler.scale(loss).backward()
            scaler.step(opt)
            scaler.update()
        return list(model.parameters()), {float(s["step"]) for s in opt.state.values()}

    (ours, counts), (theirs, torch_counts) = train(RMSProp), train(torch.optim.RMSprop)
    assert counts == torch_counts == {5.0}
    assert distance(ours, theirs) <= 1e-4  # as above


def test_the_same_parameter_twice_warns_and_steps_twice_as_in_torch():
    results = []
    for kind in (RMSProp, torch.optim.RMSprop):
        p = nn.Parameter(torch.ones(5))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            opt = kind([p, p], weight_decay=0.5, foreach=False)
        assert ["duplicate parameters" in str(w.message) for w in caught] == [True]
        walk((opt,), 5)
        results.append((p, opt.state[p]["step"]))
    assert distance([results[0][0]], [results[1][0]]) <= ROUNDING
    assert results[0][1] == results[1][1] == 10


def test_a_dropped_optimizer_is_freed_with_its_plan():
    opt = RMSProp(layouts())
    walk((opt,), 2)
    plan = opt._plan
    del opt
    gc.collect()
    assert not any(isinstance(owner, RMSProp) for owner in gc.get_referrers(plan))


def test_repr_names_every_setting():
    assert "alpha: 0.99" in repr(RMSProp(layouts()))
    assert "centered: True" in repr(RMSProp(layouts(), centered=True))


@pytest.mark.parametrize("kind", [RMSProp, SGD, AdaGrad, Adam, Rprop, SignSGD])
def test_an_optimizer_is_made_again_of_its_defaults(kind):
    opt = kind([nn.Parameter(torch.ones(2))])
    again = kind([nn.Parameter(torch.ones(2))], **opt.defaults)
    assert again.defaults == opt.defaults
