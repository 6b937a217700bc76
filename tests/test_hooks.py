"""Hooks of a step and of a state dict run when torch would run them, and may change both."""

import torch
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from twins import distance, layouts, parameters, set_gradients, walk

from meansquare import RMSProp

ROUNDING = 1e-5  # relative, of some 60 steps in float32


def recorder(calls, name, result=None):
    def hook(*arguments):
        calls.append((name, arguments[0]))
        return result

    return hook


def test_hooks_run_around_each_step_own_ones_before_global_ones_after():
    opt, calls = RMSProp(layouts()), []
    handles = [
        opt.register_step_pre_hook(recorder(calls, "before")),
        opt.register_step_post_hook(recorder(calls, "after")),
        register_optimizer_step_pre_hook(recorder(calls, "global before")),
        register_optimizer_step_post_hook(recorder(calls, "global after")),
    ]
    opt.step()
    for handle in handles:
        handle.remove()
    opt.step()
    assert {name for name, _ in calls[:2]} == {"before", "global before"}
    assert [name for name, _ in calls[2:]] == ["after", "global after"]
    assert all(own is opt for _, own in calls)


def test_a_pre_hook_may_change_the_arguments_and_the_gradients():
    opt = RMSProp(layouts())
    set_gradients(0, parameters(opt))
    before = [p.detach().clone() for p in parameters(opt)]

    def silence(own, args, kwargs):
        own.zero_grad(set_to_none=False)
        return (own, lambda: 42.0), kwargs

    opt.register_step_pre_hook(silence)
    assert opt.step() == 42.0
    assert distance(parameters(opt), before) == 0


def test_state_dict_hooks_see_and_may_replace_what_is_saved_and_loaded():
    opt, again, calls = RMSProp(layouts()), RMSProp(layouts()), []
    walk((opt,), 1)
    opt.register_state_dict_pre_hook(recorder(calls, "before saving"))
    opt.register_state_dict_post_hook(lambda own, saved: {**saved, "note": 1})
    saved = opt.state_dict()

    def adapt(own, given):
        calls.append(("before loading", own))
        return {"state": given["state"], "param_groups": [{**given["param_groups"][0], "lr": 0.5}]}

    again.register_load_state_dict_pre_hook(adapt)
    again.register_load_state_dict_post_hook(recorder(calls, "after loading"))
    again.load_state_dict(saved)
    assert saved["note"] == 1
    assert calls == [("before saving", opt), ("before loading", again), ("after loading", again)]
    assert again.param_groups[0]["lr"] == 0.5
    assert opt.param_groups[0]["lr"] == 1e-2


def test_a_load_hook_may_rename_parameters_before_they_are_matched():
    opt = RMSProp([("old", p := nn.Parameter(torch.zeros(2)))])
    walk((opt,), 1)
    again = RMSProp([("new", q := nn.Parameter(torch.zeros(2)))])

    def rename(own, given):
        given["param_groups"] = [{**given["param_groups"][0], "param_names": ["new"]}]

    again.register_load_state_dict_pre_hook(rename)
    saved = opt.state_dict()
    again.load_state_dict(saved)
    assert torch.equal(again.state[q]["square_avg"], opt.state[p]["square_avg"])
    assert saved["param_groups"][0]["param_names"] == ["old"]
