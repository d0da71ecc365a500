"""What the test of an image found."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koseki_ops.image import seal
from koseki_ops.verify.results import FAILED, PASSED, SKIPPED, Results


@dataclass
class Stage:
    """One look at the machine.

    results: what the suites said, None where there is one sentence; page: their report's name.
    """

    name: str
    seconds: float
    results: Results | None = None
    text: str = ""

    @property
    def page(self) -> str:
        """The name of the page that shows what the suites said."""
        return f"{self.name.partition(':')[0].replace(' ', '-')}.html"

    def count(self, outcome: str) -> int:
        """Return how many tests ended so; a sentence stands for one that passed."""
        if self.results is None:
            return int(outcome == PASSED)
        return self.results.count(outcome)


@dataclass
class BootCheck:
    """What a test found. accelerator: what the machine ran on."""

    image: Path
    description: seal.Description
    accelerator: str
    stages: list[Stage] = field(default_factory=list)

    @property
    def audit(self) -> dict[str, Any]:
        """What an auditor that knows nothing of this toolkit said where the image was made."""
        found: dict[str, Any] = json.loads(
            self.image.with_suffix(seal.AUDIT).read_text(encoding="utf-8")
        )
        return found

    def count(self, outcome: str) -> int:
        """Return how many tests of all stages ended so."""
        return sum(stage.count(outcome) for stage in self.stages)

    def as_json(self) -> dict[str, Any]:
        """Return what is kept beside the image."""
        return {
            "image": self.image.name,
            "sha256": self.description.sha256,
            "commit": self.description.origin.commit,
            "accelerator": self.accelerator,
            "witness": self.audit,
            "passed": self.count(PASSED),
            "failed": self.count(FAILED),
            "skipped": self.count(SKIPPED),
            "stages": [
                {
                    "name": stage.name,
                    "seconds": round(stage.seconds, 1),
                    "said": stage.text,
                    "results": stage.results.as_json() if stage.results else None,
                }
                for stage in self.stages
            ],
        }
