"""Checkpoints of every state format that was ever released load, and runs go on from there."""

import kept
import pytest
import saved
import torch
from ranks import ranks

from meansquare import RMSProp
from meansquare.settings import STATE_FORMAT

CASES = {
    f"{path.stem}, {name}": case
    for path in sorted(kept.FOLDER.glob("format*.pt"))
    for name, case in torch.load(path, weights_only=True).items()
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_goes_on_bit_for_bit_from_a_kept_state(name):
    after = kept.resumed(CASES[name])
    assert all(map(torch.equal, after, CASES[name]["after"]))


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("folder", sorted(kept.FOLDER.glob("format*-4-ranks")), ids=str)
def test_a_kept_distributed_checkpoint_goes_on_bit_for_bit(folder, size):
    options = {**kept.DISTRIBUTED, "lr": 9.0}
    work = (saved.load, str(folder), RMSProp, options)
    loaded = ranks(size).call(*work) if size > 1 else [work[0](*work[1:])]
    model, opt = saved.trained(RMSProp, kept.DISTRIBUTED)
    saved.walk(model, opt, 2, first=3)
    wanted = [saved.spread.bytes_of(p) for p in model.parameters()]
    assert all(parameters == wanted for *_, parameters in loaded)


def test_the_present_format_is_among_the_kept():
    assert any(name.startswith(f"format{STATE_FORMAT}, dialect keras") for name in CASES)
    assert (kept.FOLDER / f"format{STATE_FORMAT}-4-ranks" / ".metadata").exists()


def test_a_later_format_is_refused_and_nothing_is_loaded():
    case = CASES[f"format{STATE_FORMAT}, dialect torch"]
    opt = RMSProp(kept.parameters(torch.float32), lr=9.0)
    later = {**case["optimizer"]}
    later["param_groups"] = [{**group, "state_format": 99} for group in later["param_groups"]]
    with pytest.raises(ValueError, match=r"state_format must be 1 or less, got 99; it was written"):
        opt.load_state_dict(later)
    assert (opt.param_groups[0]["lr"], opt.state) == (9.0, {})
