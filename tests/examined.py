"""What tests ask of the doctor."""

from stepped import parameters

from meansquare import doctor


def hazards(patient):
    return [finding.hazard for finding in doctor(patient)]


def only(patient, hazard):
    """The one finding of this name."""
    (finding,) = (one for one in doctor(patient) if one.hazard == hazard)
    return finding


def named(n=2):
    return [(f"w{i}", p) for i, p in enumerate(parameters(n))]
