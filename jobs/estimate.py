"""What a run is going to take, from one batch of it: `python jobs/estimate.py experiment=ndif_70b`.

1. The words are those of the command line. The run is checked as a whole, then its first batch is run where the
   whole would be, and nothing of it is kept; a model at chance is no reason to stop.
2. What that took is multiplied by the number of batches: jobs, bytes up and down, seconds. Work that does not grow
   with the prompts (controls on a fixed number of them) is multiplied too, so the estimate is rather too high; bringing
   a model up, and the memory of the largest job, are not.
3. With `backend=dry_run` nothing is sent: jobs and bytes are what a server would be sent and would send, seconds are
   those of this machine. An embedded family takes the place of a large one there: `model=tiny`. With
   `backend.form=sandbox`, too, what would cross the socket of the sandbox that keys without a tag get.

What a run may take at most is set with `backend.max_jobs`, `max_upload_bytes` and `max_seconds`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from math import ceil
from time import perf_counter

from hydra.core.utils import env_override

from entitrack import UserError
from entitrack.cli.command_line import Composed, Job, composer
from entitrack.cli.config import check, check_values
from entitrack.cli.flags import Flags, parse
from entitrack.methods import settings_of
from entitrack.record.terminal import cost_lines
from entitrack.run import execute
from entitrack.runtime.backends import PEAKS, Cost

AS_IT_COMES = {"force": "true", "prompts": "all", "verify": "0"}
"""Settings under which one batch is not refused, where a method has them."""
ONCE = (*PEAKS, "deploying_s")
"""What of a cost is not multiplied."""
FILLED = 80.0
"""Percent of the memory that weights leave on a GPU which a batch may well take."""


def probe(words: Sequence[str]) -> tuple[Cost, float, int, int]:
    """Run the first batch of what a command line asks for.

    Returns:
        What it took, and in how many seconds; how many prompts a batch has; how many batches the whole has.

    Raises:
        UserError: The command line is wrong, or its task has no `count` of prompts.
    """
    flags = parse(words)
    whole = check_values(_composed(flags, ()).config)
    size, count = whole.general.batch_size, getattr(whole.task, "count", None)
    if not count:
        raise UserError("task", "has no count of prompts, of which one batch could be taken", fix="set task.count")
    known = settings_of(whole.method).model_fields
    more = [f"method.{name}={value}" for name, value in AS_IT_COMES.items() if name in known]
    composed = _composed(flags, (*more, f"task.count={min(size, count)}", "store=null"))
    config = check(composed.config)
    with env_override(composed.environment):
        begun = perf_counter()
        _, experiment = execute(config)
        return experiment.runner.cost, perf_counter() - begun, min(size, count), ceil(count / size)


def _composed(flags: Flags, more: Sequence[str]) -> Composed:
    with composer(flags) as opened:
        return opened.compose(Job((*flags.overrides, *more)))


def scaled(cost: Cost, times: int) -> Cost:
    """What so much work takes, so many times."""
    return Cost(**{name: value if name in ONCE else times * value for name, value in asdict(cost).items()})


def told(cost: Cost, seconds: float, prompts: int, batches: int) -> list[str]:
    """The estimate, in lines."""
    lines = [f"one batch of {prompts} prompts:", *(f"  {line}" for line in cost_lines(cost, seconds))]
    whole = cost_lines(scaled(cost, batches), batches * (seconds - cost.deploying_s) + cost.deploying_s)
    lines += [f"all {batches} batches, about:", *(f"  {line}" for line in whole)]
    if cost.gpu_percent:
        lines.append(f"by memory a batch could have {int(prompts * FILLED / cost.gpu_percent)} prompts")
    return lines


def main() -> None:
    """Entry point; without words nothing is started."""
    if not sys.argv[1:] or parse(sys.argv[1:]).help:
        print(__doc__)
        raise SystemExit(0 if sys.argv[1:] else 2)
    try:
        lines = told(*probe(sys.argv[1:]))
    except UserError as error:
        raise SystemExit(f"estimate: {error}") from None
    print("\n".join(lines))


if __name__ == "__main__":
    main()
