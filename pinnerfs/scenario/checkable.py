"""Whether the expectations of a scenario can be checked, before it is played."""

from __future__ import annotations

from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.scenario.expectations import check_kernel, plays
from pinnerfs.scenario.limits import LIMITS, Limits, refuse_work, work_up_to
from pinnerfs.scenario.schema import Scenario

__all__ = ["check_checkable"]


def check_checkable(
    scenario: Scenario,
    name: str,
    kernel: Generation,
    limits: Limits = LIMITS,
    *,
    seeds: int = 1,
    retries: int | None = None,
) -> None:
    """Raise PinnerfsError if a scenario has no expectations, the kernel cannot show them, or they take too much work.

    name: as messages name the scenario. seeds: the number of those that each play is repeated with. retries: the number
    of --cma-retries, if that is given.
    """
    if not scenario.expect:
        raise PinnerfsError(f"{name}: nothing to check: wanted an [[expect]] table, but it has none")
    try:
        check_kernel(scenario.expect, kernel)
    except ValueError as error:
        raise PinnerfsError(f"{name}: {error}", BAD_INPUT) from None
    moments = [scenario.expect[numbers[-1]].moment for numbers in plays(scenario.expect, kernel.name).values()]
    refuse_work(sum(work_up_to(scenario, moment, retries) for moment in moments) * seeds, name, limits)
