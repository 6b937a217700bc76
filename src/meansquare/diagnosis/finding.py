"""What the doctor says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What will hurt: its name, where it is, the figures that were measured, and a remedy."""

    hazard: str
    where: str
    evidence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.hazard} in {self.where}: {self.evidence}; remedy: {self.remedy}"
