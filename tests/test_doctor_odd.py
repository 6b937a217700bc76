"""What the doctor is shown that is odd: it looks as far as it goes, and says nothing untrue."""

import pytest
import torch
from examined import hazards, named, only
from hypothesis import given, settings
from hypothesis import strategies as st
from stepped import stepped

from conformance.golden import CHECKPOINTS
from meansquare import RMSProp, doctor
from meansquare.dialects import DIALECTS


def test_impossible_settings_are_a_finding():
    opt = stepped(torch.optim.RMSprop(named(), alpha=1.0))
    assert only(opt, "impossible setting").evidence == "alpha must be in [0, 1), got 1.0"
    held = stepped(RMSProp(named())).state_dict()
    held["param_groups"][0]["dialect"] = "none"
    assert "dialect must be one of" in only(held, "impossible setting").evidence


def test_first_steps_are_looked_at_with_the_second_moments_that_there_are():
    def after_one(**options):
        p = torch.nn.Parameter(torch.zeros(3))
        opt = torch.optim.RMSprop([("w", p)], **options)
        p.grad = torch.full_like(p, 1e-3)
        opt.step()
        return "first steps too long" in hazards(opt)

    assert after_one(eps=1e-8)
    assert not after_one(eps=1.0)  # which makes it gradient descent
    assert "first steps too long" not in hazards(RMSProp(named(), max_update_rms=1.0))


@pytest.mark.parametrize("step", [10**6, 10**13, 2**53])
def test_a_file_cannot_make_it_count_for_ever(step):
    held = stepped(torch.optim.RMSprop(named())).state_dict()
    held["param_groups"][0]["alpha"] = 1 - 2.0**-50
    for state in held["state"].values():
        state["step"] = step
    assert "broken state" not in hazards(held)


def test_equal_gradients_that_eps_outweighs_are_no_hazard():
    p = torch.nn.Parameter(torch.zeros(3))
    opt = RMSProp([("w", p)], dialect="dqn")
    for _ in range(400):
        p.grad = torch.full_like(p, 1e-4)
        opt.step()
    assert "centered variance near zero" not in hazards(opt)


def test_a_dict_of_torch_is_not_taken_for_another_by_one_parameter():
    held = stepped(torch.optim.RMSprop(named(), eps=0.1), times=60).state_dict()
    for key in ("foreach", "maximize", "capturable", "differentiable"):
        del held["param_groups"][0][key]
    held["state"][0]["square_avg"].fill_(1.0)  # as of large gradients
    held["state"][1]["square_avg"].fill_(1e-4)
    assert "about to be reinterpreted" not in hazards(held)
    held["state"][1]["square_avg"].fill_(1.0)
    assert "about to be reinterpreted" in hazards(held)


def test_a_dict_of_ours_that_torch_would_take_for_its_own_is_found():
    opt = stepped(RMSProp(named(), dialect="sb3", eps=0.1))
    told = only(opt.state_dict(), "about to be reinterpreted")
    assert "it is of meansquare's dialect 'sb3', where it is fine" in told.evidence
    assert told.remedy == "meansquare.RMSProp, and not torch.optim"
    assert "about to be reinterpreted" not in hazards(opt)
    assert "about to be reinterpreted" not in hazards(stepped(RMSProp(named())).state_dict())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bias_correction": True}, "leaves out the bias correction, a factor of 5.8 at step 3"),
        ({"dialect": "keras", "weight_decay": 5.0}, "adds weight_decay=5 to the gradient"),
        ({"momentum": 0.9, "nesterov": True, "clip_value": 1.0}, "does not know nesterov, clip_va"),
        ({"dialect": "timm", "momentum": 0.9}, "by lr=0.01 once more"),
    ],
)
def test_what_torch_would_leave_out_of_a_dict_of_ours_is_told(options, words):
    opt = stepped(RMSProp(named(), **options))
    told = only(opt.state_dict(), "about to be reinterpreted").evidence
    assert words in told
    assert not told.count(" and multiplies")


def eight_bits(**changes):
    held = torch.load(CHECKPOINTS / "bitsandbytes-8bit.pt", weights_only=True)
    held["state"][0]["__bnb_optimizer_quant_state__"] |= changes
    return held


ODD = [
    eight_bits(qmap1=torch.ones(3)),
    eight_bits(qmap1=5),
    eight_bits(absmax1=torch.empty(0)),
    eight_bits(absmax1=torch.ones(3, device="meta")),
    eight_bits(state1=torch.ones(16, 16, dtype=torch.uint8).to_sparse()),
    eight_bits(unorm_vec=torch.ones(1)),
    {**eight_bits(), "state": {0: {"__bnb_optimizer_quant_state__": 5, "step": None}}},
    {**eight_bits(), "param_groups": [{"params": [0, 1], "betas": (0.9,), "lr": 0.1}]},
    {
        "state": {0: {"grad_avg": torch.ones(2), "square_avg": torch.ones(3), 5: 6}},
        "param_groups": [{"params": [0], "alpha": 0.9, "eps_place": "inside", "centered": True}],
    },
]


@pytest.mark.parametrize("held", ODD)
def test_odd_state_is_looked_at_as_far_as_it_goes(held):
    for finding in doctor(held):
        assert "\n" not in str(finding)


class Another(torch.optim.SGD):
    """An optimizer with a setting that RMSProp has, too."""

    def __init__(self, params):
        super().__init__(params, lr=0.1)
        self.param_groups[0]["alpha"] = 5.0


@pytest.mark.parametrize("make", [Another, torch.optim.ASGD])
def test_an_alpha_alone_makes_no_rmsprop(make):
    opt = stepped(make(named()))
    assert doctor(opt) == doctor(opt.state_dict()) == []


def test_another_optimizer_of_one_state_is_not_taken_for_rmsprop():
    held = eight_bits()
    held["param_groups"][0]["eps"] = 0  # as bitsandbytes' SGD and Lion have it
    assert set(hazards(held)) <= {"loading by position"}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.sampled_from([*DIALECTS]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64]),
    st.sampled_from([(), (0,), (3,), (2, 2)]),
    st.integers(0, 3),
    st.floats(-30, 30),
)
def test_it_has_an_answer_for_every_dialect_dtype_and_shape(name, dtype, shape, steps, size):
    p = torch.nn.Parameter(torch.ones(shape, dtype=dtype))
    opt = RMSProp([p], dialect=name, lr=0.1)
    for _ in range(steps):
        p.grad = torch.full_like(p, 10.0 ** min(size, 4 if dtype == torch.float16 else 30))
        opt.step()
    for finding in doctor(opt):
        assert all((finding.hazard, finding.where, finding.evidence, finding.remedy))
        assert "\n" not in str(finding)
