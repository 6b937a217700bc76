"""torch.distributed.checkpoint saves and loads on any number of ranks, and into torch.optim."""

import pytest
import saved
import torch
from ranks import Ranks, ranks
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from meansquare import RMSProp
from meansquare.dialects import DIALECTS

FULL = {"lr": 1e-2, "momentum": 0.9, "centered": True}


def on(size, function, *arguments):
    """What a function returns on each of so many ranks; 1 is a process without any."""
    return ranks(size).call(function, *arguments) if size > 1 else [function(*arguments)]


def whole_state(kind, options):
    """The state and the parameters of one process."""
    model, opt = saved.trained(kind, options)
    state = [saved.described(p, opt.state[p]) for p in model.parameters()]
    saved.walk(model, opt, 2, first=3)
    return state, [saved.spread.bytes_of(p) for p in model.parameters()]


def agree(parts, whole):
    """Whether each rank's state is its piece of the whole, byte for byte, and none is left out."""
    for rank in parts:
        for own, full in zip(rank, whole, strict=True):
            assert set(own) == set(full)
            for name, (first, piece) in own.items():
                assert full[name][1][4 * first : 4 * first + len(piece)] == piece
    for i, full in enumerate(whole):
        for name in set(full) - {"step"}:
            assert sum(len(rank[i][name][1]) for rank in parts) == len(full[name][1])
    return True


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("written_on", "read_on"), [(4, 2), (4, 1), (2, 4), (1, 4)])
def test_state_is_the_same_byte_for_byte_on_any_number_of_ranks(
    tmp_path, written_on, read_on, flat
):
    on(written_on, saved.save, str(tmp_path), RMSProp, FULL, flat)
    other = {"lr": 9.0, "momentum": 0.5, "centered": True}
    loaded = on(read_on, saved.load, str(tmp_path), RMSProp, other, flat)
    state, after = whole_state(RMSProp, FULL)
    assert agree([own for _, own, _ in loaded], state)
    for groups, _, parameters in loaded:
        assert (groups[0]["lr"], groups[0]["momentum"]) == (1e-2, 0.9)
        assert parameters == after


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("flat", [False, True])
def test_torch_loads_what_we_saved_and_we_what_torch_saved(tmp_path, flat, size):
    ours, theirs = str(tmp_path / "ours"), str(tmp_path / "theirs")
    on(4, saved.save, ours, RMSProp, FULL, flat)
    on(4, saved.save, theirs, torch.optim.RMSprop, FULL, flat)
    other = {**FULL, "lr": 9.0}
    for folder in (ours, theirs):
        # Of what torch saved, our own settings keep their values: it is loaded in part.
        partly = folder == theirs
        into_torch = on(size, saved.load, folder, torch.optim.RMSprop, other, flat)
        into_ours = on(size, saved.load, folder, RMSProp, other, flat, partly)
        for (_, there, _), (groups, here, _) in zip(into_torch, into_ours, strict=True):
            assert [drop(own, "step") for own in here] == [drop(own, "step") for own in there]
            assert {count(own, torch.float64) for own in here} == {3}
            assert {count(own, torch.float32) for own in there} == {3}
            assert (groups[0]["lr"], groups[0]["dialect"]) == (1e-2, "torch")


def count(state, dtype):
    """How many steps a state tells, which is there in a dtype."""
    return torch.frombuffer(bytearray(state["step"][1]), dtype=dtype).item()


def drop(values, name):
    return {key: value for key, value in values.items() if key != name}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_survives(tmp_path, dialect):
    options = {"dialect": dialect, "lr": 1e-2} if dialect != "sb3" else {"dialect": dialect}
    on(4, saved.save, str(tmp_path), RMSProp, options)
    state, after = whole_state(RMSProp, options)
    loaded = on(2, saved.load, str(tmp_path), RMSProp, {**options, "lr": 9.0})
    assert agree([own for _, own, _ in loaded], state)
    _, opt = saved.trained(RMSProp, options)
    wanted = [drop(group, "params") for group in opt.param_groups]
    for groups, _, parameters in loaded:
        assert (groups, parameters) == (wanted, after)


def test_a_checkpoint_of_one_process_is_read_by_many(tmp_path):
    model, opt = saved.trained(RMSProp, FULL)
    path = tmp_path / "whole.pt"
    params = [p.detach() for p in model.parameters()]
    torch.save({"optimizer": opt.state_dict(), "params": params}, path)
    state, after = whole_state(RMSProp, FULL)
    read = ranks(4).call(saved.from_whole, str(path))
    assert agree([own for own, _ in read], state)
    assert all(parameters == after for _, parameters in read)


def test_state_of_many_is_refused_by_one_and_nothing_is_loaded():
    for said, unchanged in ranks(2).call(saved.refused):
        assert said.startswith(
            "RMSProp: state 'square_avg' of parameter 0 of group 0 lies on several"
        )
        assert said.endswith("or load it through torch.distributed.checkpoint")
        assert unchanged


def test_state_set_by_hand_is_placed_as_its_parameter():
    assert ranks(2).call(saved.mended) == [True, True]


def test_explain_tells_that_a_kernel_steps_the_parts():
    for told in ranks(2).call(saved.explained):
        assert "cpu: 6 tensors of float32" in told
        assert "reference" not in told


def test_shares_of_ranks_are_read_as_data(tmp_path):
    for same in ranks(2).call(saved.shares, str(tmp_path)):
        assert all(same)


def test_a_checkpoint_of_many_becomes_a_file_that_is_read_as_data(tmp_path):
    ranks(4).call(saved.save, str(tmp_path / "many"), RMSProp, FULL)
    with saved.spread.quietly():
        dcp_to_torch_save(tmp_path / "many", tmp_path / "one.pt")
    held = torch.load(tmp_path / "one.pt", weights_only=True)
    model, opt = saved.trained(RMSProp, FULL)
    for name, p in model.named_parameters():
        kept = held["optimizer"]["state"][name]
        assert all(torch.equal(kept[key], value) for key, value in opt.state[p].items())


def test_what_the_checkpoint_asks_of_a_new_optimizer_leaves_nothing_behind():
    _, opt = saved.trained(RMSProp, {**FULL, "weight_decay": 0.1, "initial_square_avg": 0.5}, 0)
    assert opt.state_dict()["state"] == {}
    model = saved.model_of()
    opt = RMSProp(model.parameters(), weight_decay=0.1, initial_square_avg=0.5)
    before = [p.detach().clone() for p in model.parameters()]
    with saved.spread.quietly():
        saved.get_state_dict(model, opt)
    assert all(map(torch.equal, before, model.parameters()))
    assert opt.param_groups[0]["lr"] == 1e-2
    for state in opt.state.values():
        assert state["step"] == 0
        assert (state["square_avg"] == 0.5).all()


def test_so_it_is_after_a_state_without_steps_was_loaded():
    made = []
    for _ in range(2):
        model = saved.model_of()
        made.append((model, RMSProp(model.parameters(), weight_decay=0.1)))
    (model, opt), (_, other) = made
    opt.load_state_dict(other.state_dict())
    with saved.spread.quietly():
        saved.get_state_dict(model, opt)
    assert {float(state["step"]) for state in opt.state.values()} == {0}
    assert not any(state["square_avg"].any() for state in opt.state.values())


def test_a_first_step_at_rate_zero_with_gradients_counts():
    _, opt = saved.trained(RMSProp, {"lr": 0.0}, steps=1)
    assert {state["step"].item() for state in opt.state.values()} == {1}
    assert all(state["square_avg"].any() for state in opt.state.values())


def test_the_last_good_checkpoint_loads_after_a_rank_was_killed_in_a_save(tmp_path):
    good, bad = str(tmp_path / "good"), str(tmp_path / "bad")
    ranks(4).call(saved.save, good, RMSProp, FULL)
    doomed = Ranks(2)
    with pytest.raises((AssertionError, EOFError)):
        doomed.call(saved.save_and_die, bad, RMSProp, FULL)
    doomed.end()
    assert list((tmp_path / "bad").iterdir())
    assert not (tmp_path / "bad" / ".metadata").exists()
    state, after = whole_state(RMSProp, FULL)
    loaded = ranks(2).call(saved.load, good, RMSProp, FULL)
    assert agree([own for _, own, _ in loaded], state)
    assert all(parameters == after for *_, parameters in loaded)
