"""Surfaces: the formulas have their minima where they say, and a run goes where its seed says."""

import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meansquare.lab import record
from meansquare.lab.ground import ground_of
from meansquare.lab.landscapes import LANDSCAPES
from meansquare.lab.run import run
from meansquare.lab.setups import SETUPS
from meansquare.lab.study import Plan
from meansquare.lab.tasks import TASKS
from meansquare.lab.tasks.named import load_task
from meansquare.lab.tasks.surfaces import EVERY, JUMPS, LEAST, MOVING, NOISE, PERIODS, POINTS, STEPS

NAMES = list(LANDSCAPES)
FIXED = [name for name in NAMES if name != MOVING]
shares = st.floats(0.0, 1.0)
STEP = 1e-6  # of a central difference, whose error is then about 1e-9 of the values here


def trained(name, periods=2, lr=1e-3, seed=1, optimizer="sgd"):
    plan = Plan("final", name, optimizer, {"lr": lr}, seed, periods)
    return run(load_task(name), SETUPS[optimizer], plan)


def pulls_at_zero(lr):
    """The gradients that a run would have had at 0: where the optimum is, and the noise."""
    problem, found = load_task(MOVING).start(1), []
    for _ in range(JUMPS[0] + 1):
        for loss in problem.losses():
            (gradient,) = torch.autograd.grad(loss, problem.points)
            found.append(gradient - torch.tensor([[1.0], [10.0]]) * problem.points.detach())
            with torch.no_grad():
                problem.points -= lr * gradient
    return torch.stack(found)


def at(landscape, share_x, share_y):
    left, right, bottom, top = landscape.window
    return left + share_x * (right - left), bottom + share_y * (top - bottom)


def test_every_landscape_is_a_task():
    assert set(NAMES) == {name for name, listing in TASKS.items() if listing.kind == "surface"}
    assert all(TASKS[name].epochs == PERIODS for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
@settings(derandomize=True, deadline=None, max_examples=50)
@given(shares, shares)
def test_no_height_is_below_that_of_the_optimum(name, share_x, share_y):
    landscape = LANDSCAPES[name]
    x, y = at(landscape, share_x, share_y)
    assert landscape.value(x, y) >= 0.0
    # The saddle's optimum, sqrt(2), is rounded.
    assert 0.0 <= landscape.value(*landscape.optimum) <= 1e-31


@pytest.mark.parametrize("name", NAMES)
@settings(derandomize=True, deadline=None, max_examples=50)
@given(shares, shares)
def test_the_gradient_is_the_slope(name, share_x, share_y):
    value = LANDSCAPES[name].value
    x, y = at(LANDSCAPES[name], share_x, share_y)
    point = torch.tensor([x, y], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(value(*point), point)
    slope_x = (value(x + STEP, y) - value(x - STEP, y)) / (2 * STEP)
    slope_y = (value(x, y + STEP) - value(x, y - STEP)) / (2 * STEP)
    assert gradient.tolist() == pytest.approx([slope_x, slope_y], rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_holds_the_way_from_the_start_to_the_optimum(name):
    landscape, ground = LANDSCAPES[name], ground_of(name)
    assert ground is not None
    left, right, bottom, top = ground.window
    for x, y in (landscape.start, landscape.optimum):
        assert left < x < right
        assert bottom < y < top
    assert len(ground.facts["paths"]) == len(ground.levels)


def test_a_task_that_is_no_surface_has_no_ground():
    assert ground_of("digits") is None


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_way_twice_and_another_seed_another(name):
    first, again, other = trained(name), trained(name), trained(name, seed=2)
    assert (first.series, first.train_loss) == (again.series, again.train_loss)
    assert first.test_metric == again.test_metric
    assert first.series["x"][0] != other.series["x"][0]
    assert len(first.series["x"]) == len(first.series["y"]) == 1 + 2 * STEPS // EVERY


@pytest.mark.parametrize("name", FIXED)
def test_what_is_reported_is_the_mean_height_of_the_points_in_decades(name):
    problem = load_task(name).start(1)
    ends = [LANDSCAPES[name].value(x, y) for x, y in problem.points.T.tolist()]
    assert len(set(ends)) == POINTS
    # Torch's and Python's powers round apart.
    assert problem.test() == pytest.approx(statistics.fmean(map(math.log10, ends)), rel=1e-12)


def test_each_point_is_led_as_if_it_were_alone():
    whole = load_task("rosenbrock").start(1)
    alone = whole.points[:, 3:4].detach().clone().requires_grad_()
    optimizer = torch.optim.SGD(whole.parameters(), 1e-3)
    for loss in whole.losses():
        (gradient,) = torch.autograd.grad(LANDSCAPES["rosenbrock"].value(*alone).sum(), alone)
        with torch.no_grad():
            alone -= 1e-3 * gradient
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(whole.points[:, 3:4], alone)


def test_the_drawn_way_is_that_of_the_first_point():
    problem = load_task("beale").start(1)
    assert [problem.series()[axis] for axis in "xy"] == problem.points[:, :1].tolist()


def test_a_height_below_the_least_is_told_as_the_least():
    assert trained("saddle", 20, lr=0.1).test_metric == math.log10(LEAST)


def test_of_settings_that_end_equally_low_the_earlier_one_is_chosen():
    slow, fast = (trained("ravine", 20, lr, 0, "momentum") for lr in (0.0015, 0.0032))
    assert slow.test_metric == fast.test_metric == math.log10(LEAST)
    assert slow.validation_metric[-1] == fast.validation_metric[-1]
    assert fast.validation_loss[-1] < slow.validation_loss[-1]


def test_the_way_weighs_less_than_a_tenth_of_a_decade_in_the_choice():
    made = trained("ravine", 20, lr=0.005)
    # A decade is where tuned optimizers differ; the way may only tell equal ends apart.
    assert made.validation_loss[-1] == pytest.approx(made.test_metric, abs=0.1)


def test_every_way_over_the_saddle_begins_close_to_the_line_into_it_and_above_it():
    task = load_task("saddle")
    heights = torch.stack([task.start(seed).points[1] for seed in range(11)])
    assert heights.min() > 0.0
    assert heights.max() < 0.03


def test_the_first_points_scatter_around_the_start_by_the_spread():
    landscape, task = LANDSCAPES["ravine"], load_task("ravine")
    points = torch.cat([task.start(seed).points.detach() for seed in range(25)], 1)
    mean, deviation = points.mean(1), points.std(1)
    # 200 draws tell a mean within 3 * 0.1 / sqrt(200), and a deviation within 15 %.
    assert mean.tolist() == pytest.approx(landscape.start, abs=0.022)
    assert deviation.tolist() == pytest.approx(landscape.spread, rel=0.15)


def test_a_jump_lifts_the_height_at_the_periods_that_are_published():
    assert tuple(load_task(MOVING).facts.events.values()) == JUMPS
    heights = trained(MOVING, PERIODS, lr=0.05).validation_metric
    lifted = [at for at in range(1, PERIODS) if heights[at] > 3 * heights[at - 1]]
    assert lifted == list(JUMPS)


def test_the_optimum_jumps_alike_whoever_follows_it():
    still, moved = (pulls_at_zero(lr) for lr in (0.0, 0.05))
    # Two ways to one number, about 10 in size.
    assert torch.allclose(still, moved, rtol=0.0, atol=1e-12)
    # The noise is in every step, and changes by less than a jump of the mean pull.
    means = still.view(-1, STEPS, 2, POINTS).mean((1, 3))
    assert (means[1] - means[0]).abs().max() < 1.0 < (means[JUMPS[0]] - means[0]).abs().max()


def test_a_gradient_of_the_moving_bowl_has_noise():
    problem = load_task(MOVING).start(1)
    drawn = [torch.autograd.grad(loss, problem.points)[0] for loss in problem.losses()]
    # Without a step between, gradients differ by their noise alone; 100 draws tell it within 30 %.
    deviations = torch.stack(drawn).std(0).flatten().tolist()
    assert deviations == pytest.approx([NOISE] * 2 * POINTS, rel=0.3)


def test_what_the_moving_bowl_reports_is_the_mean_height_of_all_steps():
    made = trained(MOVING, PERIODS, lr=0.05)
    # The noise adds 0 to a loss, which is the sum of the points' heights, a power of two of them.
    assert made.validation_metric == tuple(loss / POINTS for loss in made.train_loss)
    assert made.test_metric == statistics.fmean(made.validation_metric)


def test_a_way_that_runs_off_is_a_divergence_that_a_record_can_hold():
    made = trained("ravine", 20, lr=0.3)
    assert made.status == "diverged"
    assert record.decode(record.encode(made)) == made
