"""Agents: what they learn from is right, runs repeat, and they learn to hold the pole."""

import numpy as np
import pytest
import torch

from meansquare.lab.run import run
from meansquare.lab.setups import SETUPS
from meansquare.lab.study import Plan
from meansquare.lab.tasks import a2c, cartpole, dqn
from meansquare.lab.tasks.cartpole import LONGEST, Carts, Moment, returns
from meansquare.lab.tasks.named import load_task

NAMES = ("cartpole-a2c", "cartpole-dqn")
LEFT = 0


def trained(name, seed=1, periods=2, lr=1e-2):
    plan = Plan("final", name, "rmsprop", {"lr": lr}, seed, periods)
    return run(load_task(name), SETUPS["rmsprop"], plan)


def of(rewards, ended, terminated=None, live=None, carts=1):
    """Some moments of one cart."""
    steps = len(rewards)

    def flags(values):
        return torch.tensor(values, dtype=torch.bool).view(steps, carts)

    return Moment(
        before=torch.zeros(steps, carts, 4),
        actions=torch.zeros(steps, carts, dtype=torch.long),
        rewards=torch.tensor(rewards).view(steps, carts),
        after=torch.zeros(steps, carts, 4),
        terminated=flags(ended if terminated is None else terminated),
        ended=flags(ended),
        live=flags([True] * steps if live is None else live),
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_run_twice_and_another_seed_another(name):
    first, again, other = trained(name), trained(name), trained(name, seed=2)
    assert first.train_loss == again.train_loss
    assert first.validation_metric == again.validation_metric
    assert first.test_metric == again.test_metric
    assert first.train_loss != other.train_loss


@pytest.mark.parametrize(("name", "lr"), [("cartpole-a2c", 1e-2), ("cartpole-dqn", 1e-3)])
def test_an_agent_learns_and_one_of_no_steps_does_not(name, lr):
    # Guessing has a mean return of 22; the figures are of seed 1 (a2c 500, dqn 165).
    assert trained(name, periods=12, lr=lr).test_metric > 80
    assert trained(name, periods=2, lr=1e-12).test_metric < 60


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_is_chosen_by_the_mean_of_all_periods(name):
    made = trained(name, periods=3)
    means = np.cumsum(made.validation_metric) / np.arange(1, 4)
    assert made.validation_loss == pytest.approx(-means, rel=1e-15)


def test_a_cart_is_put_up_anew_in_the_step_after_the_end():
    carts = Carts(3, seed=0)
    moments = [carts.step(torch.zeros(3, dtype=torch.long)) for _ in range(60)]
    ended = torch.stack([moment.ended for moment in moments])
    live = torch.stack([moment.live for moment in moments])
    assert ended.any()
    assert torch.equal(live[1:], ~ended[:-1])
    for at, moment in enumerate(moments[1:], 1):
        assert torch.equal(moment.before, moments[at - 1].after)
        # A new cart stands nearly upright and still.
        assert (moment.after[~moment.live].abs() <= 0.05).all()
        assert (moment.rewards == moment.live).all()


def test_the_return_of_an_episode_is_for_how_long_the_pole_stood():
    found = returns(lambda observed: torch.full((len(observed),), LEFT), 20, seed=0)
    carts, ends = Carts(20, seed=0), torch.zeros(20)
    for step in range(1, 40):
        moment = carts.step(torch.full((20,), LEFT))
        ends = torch.where((ends == 0) & moment.ended, step, ends)
    assert found == ends.tolist()


def test_a_pole_that_is_held_is_worth_five_hundred():
    def hold(observed):
        x, speed, angle, turning = observed.T
        return (angle + 0.3 * turning + 0.01 * x + 0.05 * speed > 0).long()

    assert returns(hold, 5, seed=0) == [LONGEST] * 5


def test_n_step_returns_are_cut_where_episodes_end():
    moments = of([1.0, 1.0, 0.0, 1.0], [False, True, False, False], live=[True, True, False, True])
    values = torch.tensor([[7.0], [7.0], [7.0], [10.0]])
    d = a2c.DISCOUNT
    wanted = [[1 + d], [1.0], [d * (1 + d * 10)], [1 + d * 10]]
    # In float32, in which the returns are summed.
    assert a2c.n_step_returns(moments, values).tolist() == pytest.approx(np.array(wanted), rel=1e-6)


def test_an_episode_that_was_cut_off_goes_on_in_the_critics_word():
    moments = of([1.0, 1.0], [True, False], terminated=[False, False])
    values = torch.tensor([[20.0], [3.0]])
    d = a2c.DISCOUNT
    wanted = [[1 + 20 * d], [1 + 3 * d]]
    assert a2c.n_step_returns(moments, values).tolist() == pytest.approx(np.array(wanted), rel=1e-6)


def test_the_step_that_puts_up_a_cart_is_not_learned_from():
    agent = load_task("cartpole-a2c").start(0)
    rollout = [agent._move() for _ in range(a2c.ROLLOUT)]
    dead = Moment(*rollout[0][:-1], live=torch.zeros(a2c.CARTS, dtype=torch.bool))
    other = dead._replace(rewards=dead.rewards + 100.0, ended=torch.ones_like(dead.ended))
    first, second = agent._loss([dead, *rollout[1:]]), agent._loss([other, *rollout[1:]])
    assert first.item() == second.item()


def test_memory_holds_the_last_live_moments():
    memory = dqn.Memory(5)
    for number in range(4):
        moment = of([float(number)] * 2, [number == 3] * 2)
        moment = Moment(*(part[:, 0] for part in moment))
        memory.add(moment._replace(live=torch.tensor([True, number != 1])))
    assert memory.seen == 7
    assert len(memory) == 5
    assert sorted(memory.rewards.tolist()) == [1.0, 2.0, 2.0, 3.0, 3.0]
    assert memory.goes_on.tolist() == (memory.rewards != 3.0).float().tolist()


def test_the_target_network_follows_every_so_many_steps():
    agent = load_task("cartpole-dqn").start(0)
    losses = agent.losses()
    for step in range(2 * dqn.TARGET_EVERY):
        next(losses)
        ours, theirs = (
            next(net.parameters())[0, 0].item() for net in (agent._network, agent._target)
        )
        assert (ours == theirs) == (step % dqn.TARGET_EVERY == 0)
        with torch.no_grad():
            next(agent._network.parameters()).add_(1.0)


def test_validation_and_test_carts_are_not_those_of_training():
    seeds = {0, cartpole.VALIDATION_SEED, cartpole.TEST_SEED}
    assert len({tuple(Carts(2, seed).observed.flatten().tolist()) for seed in seeds}) == 3
