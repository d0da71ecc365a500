"""The runs that look at the platform by the clock, and what the weekly one makes of its answer."""

from __future__ import annotations

from dataclasses import dataclass

from koseki_ops.core.language import _
from koseki_ops.core.results import EngineResult


@dataclass(frozen=True)
class Run:
    """One thing that a host which keeps watch does by the clock.

    name: its rows in `watch_schedule`; unit: of systemd, without a suffix; arguments: of `koseki`;
    delay: seconds by which it may start late, so that not all begin at once.
    """

    name: str
    unit: str
    arguments: str
    description: str
    delay: int


# No run needs a secret, or more of a host than an answer: the engines' second opinion, which needs
# both, is asked at the control node (`koseki watch opinion`).
RUNS = (
    Run("sweep", "koseki-drift", "drift --alert", "Sweep the platform for drift", 20),
    Run("verify", "koseki-verify", "verify", "Verify the whole platform", 300),
)


def opinion(result: EngineResult) -> list[str]:
    """Return what the engines, asked under check, say that the sweep does not know: a line each.

    Empty: nothing would change, on no host.
    """
    sentences = []
    for name, host in result.hosts.items():
        if host.unreachable:
            sentences.append(
                _("{name} is not verified: {errors}").format(
                    name=name, errors="; ".join(host.errors) or _("no answer")
                )
            )
        elif host.failed:
            sentences.append(
                _("{name} could not be asked: {errors}").format(
                    name=name, errors="; ".join(host.errors)
                )
            )
        elif host.changed:
            sentences.append(
                _(
                    "{name} differs from the inventory, {changed} would change: {changes}; "
                    "run `koseki apply --limit {name}`"
                ).format(name=name, changed=host.changed, changes="; ".join(host.changes))
            )
    return sentences


# Asked of systemd itself, as anybody may: a block for each run, its service's and its timer's rows.
STATUS = "; ".join(
    f"systemctl show {run.unit}.service -p Id,ActiveState,Result,ExecMainStatus,"
    f"ExecMainStartTimestamp,ExecMainExitTimestamp; "
    f"systemctl show {run.unit}.timer -p UnitFileState,NextElapseUSecRealtime; echo --"
    for run in RUNS
)


@dataclass(frozen=True)
class RunState:
    """How one run stands on its host; times as systemd writes them, empty when there is none."""

    unit: str
    at_work: bool
    result: str
    exit_code: int
    last: str
    coming: str

    @property
    def well(self) -> bool:
        """Whether the last run ended well, or there was none yet, and another one comes."""
        return self.result == "success" and bool(self.coming or self.at_work)

    @property
    def sentence(self) -> str:
        """Say it to a person."""
        if self.at_work:
            text = _("is at work")
        elif not self.last:
            text = _("not due yet")
        else:
            text = _("{last}: ended well").format(last=self.last)
            if self.result != "success":
                text = _("{last}: ended {result} {exit_code}").format(
                    last=self.last, result=self.result, exit_code=self.exit_code
                )
        return (
            _("{text}; next {coming}").format(text=text, coming=self.coming)
            if self.coming
            else _("{text}; no next one").format(text=text)
        )


def run_states(answer: str) -> list[RunState]:
    """Return how each run stands, from what `STATUS` printed; ValueError when it did not."""
    states = []
    for block in answer.split("--\n")[:-1]:
        row = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        states.append(
            RunState(
                unit=row.get("Id", "?").removesuffix(".timer").removesuffix(".service"),
                at_work=row.get("ActiveState") == "activating",
                result=row.get("Result", "unknown"),
                exit_code=int(row.get("ExecMainStatus") or 0),
                last=row.get("ExecMainStartTimestamp", ""),
                coming=row.get("NextElapseUSecRealtime", ""),
            )
        )
    if [state.unit for state in states] != [run.unit for run in RUNS]:
        raise ValueError(f"{len(states)} of {len(RUNS)} runs are reported")
    return states
