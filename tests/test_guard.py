"""A guard looks before each step: what is broken changes nothing, what is usual goes through."""

import copy
import math
import pickle
import random
import resource
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from meansquare import SGD, AdaGrad, Adam, AdamW, Guard, RMSProp, Rprop, SignSGD
from meansquare.guarding.usual import LEAST_SPREAD, NORMAL, Norms, Window

FAMILY = (RMSProp, SGD, AdaGrad, Adam, AdamW, Rprop, SignSGD)


def two(kind=RMSProp, **options):
    params = [("a", nn.Parameter(torch.tensor([1.0, 2.0]))), ("b", nn.Parameter(torch.ones(3)))]
    return kind(params, **{"lr": 0.01, **options})


def params(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def step(optimizer, gradient=1.0, loss=None, others=None):
    """A step by gradients that are all of one size; `others` are those of the second layer."""
    first, second = params(optimizer)
    first.grad = torch.full_like(first, gradient)
    second.grad = torch.full_like(second, gradient if others is None else others)
    if loss is not None:
        optimizer.guard.saw(loss)
    optimizer.step()


def everything(optimizer):
    held = [t for p in params(optimizer) for t in (p, *optimizer.state.get(p, {}).values())]
    return [t.detach().clone() for t in held]


def same(one, other):
    return len(one) == len(other) and all(map(torch.equal, one, other))


@pytest.mark.parametrize("kind", FAMILY)
def test_a_guard_that_sees_nothing_changes_nothing(kind):
    plain, guarded = two(kind), two(kind, guard=Guard(clip=10.0, spike="rollback"))
    for i in range(60):
        for optimizer in (plain, guarded):
            step(optimizer, math.sin(i) + 1.5)
    assert same(everything(plain), everything(guarded))
    assert not guarded.guard.events


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_skipped_step_leaves_weights_state_and_counts_as_they_were(kind, broken):
    optimizer = two(kind, guard=Guard())
    step(optimizer)
    before = everything(optimizer)
    step(optimizer, 1.0, others=broken)
    step(optimizer, 1.0, loss=broken)
    assert same(before, everything(optimizer))
    first, second = optimizer.guard.events
    assert (first.what, first.action, first.layers) == ("non-finite gradient", "skip", ("b",))
    assert (second.what, first.step, second.batch) == ("non-finite loss", 1, 2)


def test_before_the_first_step_a_broken_batch_leaves_no_state():
    optimizer = two(guard=Guard())
    step(optimizer, math.nan)
    assert not optimizer.state


def test_raising_names_layers_and_batch_and_changes_nothing():
    optimizer = two(guard=Guard(nonfinite="raise"))
    step(optimizer)
    before = everything(optimizer)
    message = "Guard: non-finite gradient in b at batch 1; nothing was changed"
    with pytest.raises(FloatingPointError, match=message):
        step(optimizer, 1.0, others=math.nan)
    assert same(before, everything(optimizer))


def test_zeroing_steps_by_the_gradient_with_zeros_in_place_of_what_is_broken():
    guarded, plain = two(guard=Guard(nonfinite="zero")), two()
    for optimizer, second in ((guarded, [math.nan, 2.0, -math.inf]), (plain, [0.0, 2.0, 0.0])):
        p, q = params(optimizer)
        p.grad, q.grad = torch.ones(2), torch.tensor(second)
        optimizer.step()
    assert same(everything(guarded), everything(plain))
    assert [event.action for event in guarded.guard.events] == ["zero"]


def usual(optimizer, steps=40):
    """Steps whose loss and gradients vary by a fifth."""
    chance = np.random.default_rng(0)
    for _ in range(steps):
        size = float(chance.uniform(0.9, 1.1))
        step(optimizer, size, loss=size)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_spike_is_skipped_before_it_enters_the_second_moment(what):
    optimizer = two(guard=Guard())
    usual(optimizer)
    before = everything(optimizer)
    step(optimizer, 1000.0 if what == "gradient" else 1.0, 50.0 if what == "loss" else 1.0)
    assert same(before, everything(optimizer))
    (event,) = optimizer.guard.events
    assert event.what == f"spike in the {what}"
    assert event.values[f"z_{what}"] > 6
    assert (event.step, event.batch) == (40, 40)


def test_a_loss_that_was_not_finite_is_not_taken_for_usual():
    optimizer = two(guard=Guard(nonfinite="zero"))
    usual(optimizer)
    step(optimizer, math.nan, loss=math.nan)
    usual(optimizer, 3)
    step(optimizer, 1.0, loss=50.0)
    assert [event.action for event in optimizer.guard.events] == ["zero", "skip"]


def test_the_layer_of_the_largest_gradient_is_named():
    optimizer = two(guard=Guard())
    usual(optimizer)
    step(optimizer, 1.0, others=1e4)
    assert optimizer.guard.events[0].layers == ("b",)


def test_a_warning_steps_all_the_same():
    guarded, plain = two(guard=Guard(spike="warn")), two()
    usual(guarded)
    plain.load_state_dict(guarded.state_dict())
    for p, q in zip(params(plain), params(guarded), strict=True):
        p.data.copy_(q)
    with pytest.warns(RuntimeWarning, match=r"Guard: spike in the gradient at batch 40 \(loss 1"):
        step(guarded, 1000.0, 1.0)
    step(plain, 1000.0)
    assert same(everything(guarded), everything(plain))


def test_the_step_is_lowered_for_a_while_and_the_learning_rate_stays():
    guarded = two(SGD, guard=Guard(spike="lower", lower_by=0.5, lower_for=3))
    usual(guarded)
    moves = []
    for gradient in (100.0, 1.0, 1.0, 1.0):
        before = params(guarded)[0][0].item()
        step(guarded, gradient, 1.0)
        moves.append(before - params(guarded)[0][0].item())
    # Differences of float32 numbers near 1.
    assert moves == pytest.approx([0.5, 0.005, 0.005, 0.01], rel=1e-4)
    assert guarded.param_groups[0]["lr"] == 0.01


def test_a_learning_rate_that_is_a_tensor_is_lowered_too():
    rate = torch.tensor(0.01)
    guarded = two(SGD, lr=rate, guard=Guard(spike="lower"))
    usual(guarded)
    step(guarded, 100.0, 1.0)
    assert guarded.param_groups[0]["lr"] is rate
    assert rate == torch.tensor(0.01)


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_a_rollback_is_to_weights_state_and_random_state_of_a_good_step(place, tmp_path):
    folder = None if place == "memory" else tmp_path / "snapshots"
    scheduler_like = nn.BatchNorm1d(1)
    guard = Guard(spike="rollback", snapshot_every=20, others=[scheduler_like], folder=folder)
    optimizer = two(momentum=0.9, guard=guard)
    kept = {}
    chance = np.random.default_rng(0)
    for i in range(1, 46):
        size = float(chance.uniform(0.9, 1.1))
        scheduler_like.running_mean.fill_(i)
        step(optimizer, size, size)
        kept[i] = everything(optimizer), drawn()
    step(optimizer, 1000.0, 1.0)
    (event,) = guard.events
    assert event.action == "rollback"
    assert event.values["back_to"] == 21  # 41 is not 10 steps old
    assert same(everything(optimizer), kept[21][0])
    assert scheduler_like.running_mean.item() == 21
    assert drawn() == kept[21][1]


def drawn():
    """Draws of every generator; snapshots are taken just before."""
    return torch.rand(2).tolist(), random.random(), float(np.random.rand())


def test_files_of_snapshots_are_bounded_and_of_tensors_alone(tmp_path):
    optimizer = two(guard=Guard(spike="rollback", snapshot_every=2, keep=3, folder=tmp_path))
    usual(optimizer, 30)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"snapshot-rank0-step{step}.pt" for step in (25, 27, 29)]
    assert torch.load(tmp_path / names[0], weights_only=True)["step"] == 25


def test_a_disk_that_is_full_stops_nothing_and_is_told_once(tmp_path):
    guard = Guard(spike="rollback", snapshot_every=1, folder=tmp_path)
    optimizer = two(guard=guard)
    step(optimizer, 1.0, 1.0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.warns(RuntimeWarning, match="Guard: cannot write a snapshot to") as told:
            usual(optimizer, 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (guard.failed_snapshots, len(told)) == (5, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot-rank0-step1.pt"]
    usual(optimizer, 40)
    assert guard.failed_snapshots == 5


def test_spikes_after_a_rollback_go_back_further_and_in_the_end_are_the_usual():
    guard = Guard(spike="rollback", snapshot_every=10, keep=3, patience=4)
    optimizer = two(guard=guard)
    usual(optimizer, 60)
    for _ in range(5):
        step(optimizer, 1000.0, 1.0)
    told = [(event.action, event.values.get("back_to")) for event in guard.events]
    assert told[:4] == [("rollback", 41), ("rollback", 31), ("rollback", 31), ("rollback", 31)]
    assert told[4] == ("taken for usual", None)


# The known hazards of published methods.


def test_gradients_that_grow_for_good_are_not_held_down_for_ever():
    """AdaGC's own norm grows by a thousandth a step, so that it lags ever more."""
    norms = Norms(32, 8)
    for _ in range(32):
        norms.add({0: 1.0})
    held = []
    for _ in range(64):
        norm = 100.0
        held.append(norms.limits({0: norm}, 4.0).get(0, 1.0))
        norms.add({0: norm})
    assert held[0] == 0.04
    assert held[-1] == 1.0


def test_zero_gradients_at_the_start_lock_no_tensor():
    """One zero gradient locks a tensor of AdaGC's: its norm is zero then, and stays it."""
    optimizer = two(guard=Guard(clip=4.0, warmup=4))
    for _ in range(10):
        step(optimizer, 1.0, 1.0, others=0.0)
    before = params(optimizer)[1].detach().clone()
    for _ in range(10):
        step(optimizer, 1.0, 1.0, others=1.0)
    assert (params(optimizer)[1] < before).all()
    assert not [event for event in optimizer.guard.events if event.action == "clip"]


def test_weights_whose_second_moment_is_zero_are_not_frozen():
    """SPAM clips at a multiple of sqrt(v), which is zero where there was no gradient yet."""
    optimizer = two(guard=Guard(clip=4.0, warmup=4))
    p = params(optimizer)[0]
    for gradient in ([1.0, 0.0],) * 10 + ([1.0, 1.0],):
        p.grad = torch.tensor(gradient)
        optimizer.step()
    assert p[1] < 2.0


def test_a_new_level_is_taken_for_usual_after_some_patience():
    optimizer = two(guard=Guard(patience=3))
    usual(optimizer)
    for _ in range(10):
        step(optimizer, 100.0, 1.0)
    actions = [event.action for event in optimizer.guard.events]
    assert actions == ["skip"] * 3 + ["taken for usual"]


def test_a_tensor_that_is_clipped_goes_down_to_its_own_usual_norm_alone():
    optimizer = two(guard=Guard(clip=4.0, spike="warn"))
    usual(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step(optimizer, 1.0, 1.0, others=1000.0)
    p, q = params(optimizer)
    (event,) = [event for event in optimizer.guard.events if event.action == "clip"]
    assert event.layers == ("b",)
    assert torch.equal(p.grad, torch.ones(2))
    assert float(q.grad.norm()) == pytest.approx(4 * math.sqrt(3), rel=0.1)  # of 0.9 to 1.1


def test_batches_that_are_all_broken_are_told_of_and_rolled_back_from():
    optimizer = two(guard=Guard(patience=3))
    with pytest.warns(RuntimeWarning, match="gradient 3 times in a row") as told:  # noqa: PT031
        for _ in range(5):
            step(optimizer, math.nan)
    assert len(told) == 1
    optimizer = two(guard=Guard(spike="rollback", patience=3))
    step(optimizer, 1.0)
    good = everything(optimizer)
    params(optimizer)[0].data.fill_(math.nan)
    for _ in range(3):
        step(optimizer, math.nan)
    assert same(good, everything(optimizer))
    assert [event.action for event in optimizer.guard.events] == ["skip", "skip", "rollback"]


def test_the_loss_of_a_closure_is_seen():
    optimizer = two(guard=Guard())

    def closure():
        for p in params(optimizer):
            p.grad = torch.ones_like(p)
        return torch.tensor(math.nan)

    assert math.isnan(optimizer.step(closure))
    assert optimizer.guard.events[0].what == "non-finite loss"


def test_a_batch_may_have_a_name():
    optimizer = two(guard=Guard())
    optimizer.guard.saw(math.inf, batch=("epoch 3", 17))
    step(optimizer)
    assert optimizer.guard.events[0].batch == ("epoch 3", 17)


def test_a_scaled_loss_is_judged_unscaled():
    optimizer = two(guard=Guard())
    usual(optimizer)
    before = everything(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    p, q = params(optimizer)
    scaler.scale(p.sum() + q.sum()).backward()
    p.grad, q.grad = torch.full((2,), 2.0**12), torch.full((3,), 2.0**12)
    scaler.step(optimizer)
    assert not optimizer.guard.events
    assert not same(before, everything(optimizer))


def test_a_compiled_step_is_guarded():
    optimizer = two(guard=Guard())
    stepped = torch.compile(optimizer.step, backend="eager")
    before = everything(optimizer)
    for p in params(optimizer):
        p.grad = torch.full_like(p, math.nan)
    stepped()
    assert same(before, everything(optimizer))
    assert len(optimizer.guard.events) == 1


def test_a_run_goes_on_with_what_was_usual():
    whole, first = two(guard=Guard(clip=4.0)), two(guard=Guard(clip=4.0))
    usual(whole)
    usual(first)
    second = two(guard=Guard(clip=4.0))
    second.load_state_dict(first.state_dict())
    second.guard.load_state_dict(copy.deepcopy(first.guard.state_dict()))
    for p, q in zip(params(second), params(first), strict=True):
        p.data.copy_(q)
    for optimizer in (whole, second):
        step(optimizer, 5.0, 1.0)
        step(optimizer, 1.0, 50.0)
    assert same(everything(whole), everything(second))
    assert [*whole.guard.events] == [*second.guard.events]


def test_copies_of_an_optimizer_have_no_guard():
    optimizer = two(guard=Guard())
    step(optimizer)
    assert copy.deepcopy(optimizer).guard is None
    assert pickle.loads(pickle.dumps(optimizer)).guard is None


def test_a_guard_may_be_given_later_and_in_any_dialect():
    optimizer = two(dialect="keras", guard=Guard())
    assert optimizer.guard is not None
    optimizer = two()
    optimizer.guard = Guard()
    step(optimizer, math.nan)
    assert len(optimizer.guard.events) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nonfinite": "ignore"}, "Guard: nonfinite must be one of"),
        ({"spike": "hide"}, "Guard: spike must be one of"),
        ({"threshold": 0}, "Guard: threshold must be finite and > 0, got 0"),
        ({"clip": -1.0}, "Guard: clip must be finite and > 0, got -1.0"),
        ({"keep": 0}, "Guard: keep must be 1 or more, got 0"),
        ({"patience": 1.5}, "Guard: patience must be an integer, got 1.5"),
        ({"window": 8, "warmup": 9}, "Guard: warmup must be at most window, got 9 of 8"),
        ({"lower_by": 1.0}, r"Guard: lower_by must be in \[0, 1\), got 1.0"),
        ({"others": [3]}, "Guard: others must have state_dict and load_state_dict, got 3"),
    ],
)
def test_what_a_guard_cannot_be_is_refused_in_one_line(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Guard(**options)


def test_what_is_no_guard_is_refused():
    with pytest.raises(TypeError, match="RMSProp: guard must be a Guard, got 'yes'"):
        two(guard="yes")
    with pytest.raises(
        ValueError, match="RMSProp: guard must be None where parameters are stepped"
    ):
        two(guard=Guard()).step_in_backward()


NUMBERS = st.lists(st.floats(1e-6, 1e6), min_size=32, max_size=60)


@settings(derandomize=True, deadline=None)
@given(NUMBERS, st.floats(1e-6, 1e6), st.sampled_from([2.0**-10, 1.0, 2.0**10]))
def test_a_score_is_that_of_the_logarithms_and_of_no_unit(known, value, unit):
    window = Window(60, 32)
    for x in known:
        window.add(x * unit)
    logs = np.log(known)
    middle, most = np.median(logs), logs.max()
    score = window.score(value * unit, 1.0)
    # Logarithms round: at the border either is right.
    if math.log(value) > most + (most - middle) + 1e-9:
        spread = max(NORMAL * np.median(np.abs(logs - middle)), LEAST_SPREAD)
        assert score == pytest.approx((math.log(value) - middle) / spread, rel=1e-9)
    elif math.log(value) < most + (most - middle) - 1e-9:
        assert score == -math.inf


def test_losses_below_zero_are_scored_as_they_are():
    window = Window(64, 32)
    for i in range(64):
        window.add(-1.0 + 0.1 * math.sin(i))
    assert window.score(-0.85, 1.0) == -math.inf
    assert window.score(5.0, 1.0) > 6
