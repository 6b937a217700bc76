"""The doctor tells what will hurt, with figures that are those of the very state."""

import re

import numpy as np
import pytest
import torch
from conftest import meansquare
from examined import hazards, named, only
from snapshot import contents
from stepped import parameters, stepped

from conformance.golden import CHECKPOINTS
from conformance.problem import NEAR_CONSTANT
from meansquare import SGD, Adam, RMSProp, doctor


def test_nothing_is_found_where_nothing_will_hurt():
    assert doctor(stepped(RMSProp(named(), dialect="steady"))) == []
    assert doctor(RMSProp(named(), dialect="tf1", lr=0.1)) == []
    assert doctor(stepped(torch.optim.RMSprop(named()), times=400)) == []


def near_constant(opt, steps):
    """Step the optimizer of a parameter of 7 with gradients that hardly vary."""
    (p,) = opt.param_groups[0]["params"]
    for t in range(1, steps + 1):
        flat = np.concatenate([g.reshape(-1) for g in NEAR_CONSTANT.gradients(t)])
        p.grad = torch.from_numpy(flat.astype("float32"))
        opt.step()
    return opt


@pytest.mark.parametrize("kind", [torch.optim.RMSprop, RMSProp])
def test_centered_variance_that_is_rounding_is_found_and_counted(kind):
    opt = near_constant(kind([("w", torch.nn.Parameter(torch.zeros(7)))], centered=True), 1500)
    (state,) = opt.state.values()
    v, m = state["square_avg"], state["grad_avg"]
    lost = v - m * m < v * 2.0**-20
    assert lost.any()
    finding = only(opt, "centered variance near zero")
    assert finding.where == "parameter 'w'"
    assert f"{int(lost.sum())} of 7 weights" in finding.evidence
    assert f"{int((v - m * m < 0).sum())} of them below 0" in finding.evidence
    longest = float(re.search(r"makes ([\d,]+) lr", finding.evidence)[1].replace(",", ""))
    assert 900 < longest <= 1024  # 2**10 lr is where the floor holds it
    assert ("meansquare.RMSProp" in finding.remedy) == (kind is torch.optim.RMSprop)


def test_averages_in_16_bits_are_found_and_stand_still_as_told():
    p = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    opt = torch.optim.RMSprop([("w", p)], alpha=0.999)
    p.grad = torch.full_like(p, 0.5)
    for _ in range(3000):
        opt.step()
    finding = only(opt, "half-precision state")
    assert "bfloat16 in 1 buffers: at alpha=0.999" in finding.evidence
    reach = float(re.search(r"within (\d+)%", finding.evidence)[1]) / 100
    before = opt.state[p]["square_avg"].clone()
    p.grad = (before.float() * (1 + 0.9 * reach)).sqrt().to(p.dtype)
    opt.step()
    assert torch.equal(opt.state[p]["square_avg"], before)
    assert 1 < reach < 3  # so 0.25, which is twice to four times v by now, is never reached
    assert before.float().max() < 0.25


def test_an_eps_that_is_nothing_in_float16_is_found():
    p = torch.nn.Parameter(torch.ones(4, dtype=torch.float16))
    opt = torch.optim.RMSprop([p])
    p.grad = torch.full_like(p, 1e-5)
    opt.step()
    finding = only(opt, "eps too small")
    assert "eps=1e-08 is 0 in float16, and 4 of 4 second moments are 0" in finding.evidence
    p.grad = torch.zeros_like(p)
    opt.step()
    assert p.isnan().all()  # 0/0, as it says
    assert "eps too small" not in hazards(RMSProp([torch.nn.Parameter(p.detach())]))


def lengths(opt, steps):
    """How far a weight moves under a constant gradient, in lr."""
    (p,) = opt.param_groups[0]["params"]
    for _ in range(steps):
        before = p.item()
        p.grad = torch.ones_like(p)
        opt.step()
        yield abs(p.item() - before) / opt.param_groups[0]["lr"]


FIRST = [
    ({}, r"move a weight by (?P<now>10\.0) lr; (?P<later>1\.0) lr is what"),
    (
        {"momentum": 0.9},
        r"by (?P<now>10\.0) lr, and by up to (?P<peak>29\.9) lr at step (?P<at>11); "
        r"(?P<later>10\.0) lr is",
    ),
    ({"alpha": 0.9}, r"at the first step gradients .* by (?P<now>3\.2) lr; (?P<later>1\.0) lr"),
]


@pytest.mark.parametrize(("options", "words"), FIRST)
def test_first_steps_are_as_long_as_it_says(options, words):
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    opt = torch.optim.RMSprop([p], lr=1.0, **options)
    told = re.search(words, only(opt, "first steps too long").evidence)
    assert told
    path = [*lengths(opt, 2000)]
    assert round(path[0], 1) == float(told["now"])
    assert round(path[-1], 1) == float(told["later"])
    if "peak" in told.groupdict():
        assert round(max(path), 1) == float(told["peak"])
        assert path.index(max(path)) + 1 == int(told["at"])


@pytest.mark.parametrize("steps", [0, 1, 5, 100])
def test_first_steps_are_told_of_while_they_last(steps):
    opt = stepped(torch.optim.RMSprop(named()), times=steps)
    assert ("first steps too long" in hazards(opt)) == (steps < 28)  # 1/sqrt(1-.99**t) is 2 there
    for healthy in ({"bias_correction": True}, {"initial_square_avg": 1.0}):
        assert "first steps too long" not in hazards(RMSProp(named(), **healthy))


def test_momentum_that_bitsandbytes_ignores_is_found():
    finding = only(CHECKPOINTS / "bitsandbytes-8bit.pt", "momentum ignored by its library")
    assert finding.evidence == (
        "momentum is 0.9 there, and of 2 parameters with state none has a buffer for it"
    )


def test_8_bit_moments_that_cannot_fall_are_counted():
    held = torch.load(CHECKPOINTS / "bitsandbytes-8bit.pt", weights_only=True)
    state = held["state"][0]["__bnb_optimizer_quant_state__"]
    table = state["qmap1"].double()
    fallen = (table[None] - 0.99 * table[state["state1"].long()].flatten()[:, None]).abs().argmin(1)
    stuck = int((fallen == state["state1"].flatten().long()).sum())
    (first, _) = (one for one in doctor(held) if one.hazard == "second moments that cannot fall")
    assert stuck > 200
    assert first.evidence.startswith(f"{stuck} of 256 second moments round back")


def test_a_setting_whose_buffer_is_missing_is_found_and_raises_in_torch():
    opt = stepped(torch.optim.RMSprop(named()))
    opt.param_groups[0]["momentum"] = 0.9
    finding = only(opt, "setting without its state")
    assert finding.evidence == "2 of 2 parameters with state have no 'momentum_buffer'"
    with pytest.raises(KeyError, match="momentum_buffer"):
        stepped(opt)


def test_parameters_that_only_their_place_tells_apart_are_counted():
    shapes = [(2, 3), (2, 3), (2, 3), (4,), (4,), (5,)]
    params = [torch.nn.Parameter(torch.ones(shape)) for shape in shapes]
    opt = stepped(torch.optim.RMSprop(params))
    finding = only(opt, "loading by position")
    assert "5 of 6 share their shape (3 are (2, 3))" in finding.evidence
    names = [(f"w{i}", p) for i, p in enumerate(params)]
    assert "loading by position" not in hazards(stepped(torch.optim.RMSprop(names)))
    assert "loading by position" not in hazards(stepped(torch.optim.RMSprop(params[-1:])))


REINTERPRETED = [("timm", "it is of timm.optim.RMSpropTF"), ("sb3", "as if it began at 1")]


@pytest.mark.parametrize(("name", "words"), REINTERPRETED)
def test_a_dict_that_torch_would_take_for_its_own_is_found(name, words):
    finding = only(CHECKPOINTS / f"{name}.pt", "about to be reinterpreted")
    assert words in finding.evidence
    assert finding.remedy == f"meansquare.RMSProp(dialect={name!r})"
    torchs = torch.optim.RMSprop([torch.nn.Parameter(torch.ones(16, 16)) for _ in range(2)])
    held = torch.load(CHECKPOINTS / f"{name}.pt", weights_only=True)
    torchs.load_state_dict(held)  # with no error, as it says
    if name == "timm":
        assert "multiplies its momentum, which has lr in it, by lr=0.001" in finding.evidence
    else:
        v, group = held["state"][0]["square_avg"].double(), held["param_groups"][0]
        rest = group["alpha"] ** 60
        seen = (v - rest)[v - rest > 1e-5 * v] / (1 - rest)  # what is smaller may be rounding
        gap = (seen + group["eps"]).sqrt() / (seen.sqrt() + group["eps"])
        told = float(re.search(r"steps up to ([\d.]+) times", finding.evidence)[1])
        assert told == pytest.approx(gap.max().item(), rel=0.01)  # three digits


def test_torchs_own_dicts_of_any_age_are_not():
    held = stepped(torch.optim.RMSprop(named())).state_dict()
    assert "about to be reinterpreted" not in hazards(held)
    for group in held["param_groups"]:  # as before torch 1.12
        for key in ("foreach", "maximize", "capturable", "differentiable"):
            del group[key]
    assert "about to be reinterpreted" not in hazards(held)


def test_numbers_that_no_step_leaves_behind_are_counted():
    opt = stepped(RMSProp(named(), dialect="steady", momentum=0.9))
    first = opt.param_groups[0]["params"][0]
    opt.state[first]["square_avg"][0] = -1.0
    opt.state[first]["momentum_buffer"][1:] = float("nan")
    told = {one.evidence for one in doctor(opt) if one.hazard == "broken state"}
    assert told == {
        "of 3 numbers in 'square_avg' 1 negative",
        "of 3 numbers in 'momentum_buffer' 2 not finite",
    }


@pytest.mark.parametrize("make", [torch.optim.RMSprop, RMSProp])
def test_optimizer_state_dict_and_file_tell_the_same_and_stay_as_they_are(make, tmp_path):
    opt = stepped(make(parameters(), momentum=0.9, centered=True))
    before = contents(opt)
    torch.save(opt.state_dict(), tmp_path / "x.pt")
    content = (tmp_path / "x.pt").read_bytes()
    told = doctor(opt)
    assert told
    assert doctor(opt.state_dict()) == told
    assert doctor(tmp_path / "x.pt") == doctor(str(tmp_path / "x.pt")) == told
    assert contents(opt) == before
    assert (tmp_path / "x.pt").read_bytes() == content


@pytest.mark.parametrize("make", [SGD, Adam, torch.optim.Adam, torch.optim.SGD])
def test_of_other_optimizers_only_the_state_is_looked_at(make):
    assert hazards(stepped(make(named()))) == []


@pytest.mark.parametrize(
    ("patient", "error", "words"),
    [
        (7, TypeError, "takes an optimizer, a state dict or the path of a file, got 7"),
        ({"state": {}}, ValueError, "a state dict must have 'param_groups'"),
        ("none.pt", OSError, "none.pt"),
    ],
)
def test_what_it_cannot_look_at_is_refused_in_one_line(patient, error, words):
    with pytest.raises(error) as caught:
        doctor(patient)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_line_shows_findings_with_evidence_and_remedy():
    done = meansquare("doctor", CHECKPOINTS / "timm.pt", env={"COLUMNS": "200"})
    assert done.returncode == 0
    assert "timm.optim.RMSpropTF" in done.stdout
    assert "about to be reinterpreted" in done.stdout
    assert "meansquare.RMSProp(dialect='timm')" in done.stdout
    assert done.stdout.splitlines()[-1] == "2 hazards found."
