"""What bounds every transplant: nothing at all, and everything that there is.

1. Null control: what the whole circuit moves is read in the recipient itself and put back, as the donor's is. Nothing
   may change; where something does, the reading or the putting is at fault.
2. All heads at `last`, and all heads at the circuit's roles, as the controls have them.
3. Everything: the stream behind the last layer, at `last`, as its two parts. What is left of the recipient is its
   unembedding, so that this is the donor's own accuracy where that was not tuned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from entitrack.core.measurement import PROMPT, Measurement, stacked
from entitrack.engine.patching import answer_patched, read_sites
from entitrack.methods.cmap.settings import EVERYTHING, NULL
from entitrack.methods.cmap.transplants import Plan
from entitrack.methods.experiment import Experiment, prompt_inputs, prompt_set
from entitrack.models.family import Model
from entitrack.tasks.encoding import EncodedBatch
from entitrack.tasks.protocol import LAST


def brackets(
    experiment: Experiment,
    base: Model,
    donor: Model,
    plan: Callable[[EncodedBatch], Plan],
    heads: Mapping[str, Bool[Tensor, " prompt"]],
    count: int | None,
) -> dict[str, Measurement]:
    """The null control and the brackets, on the task's first prompts.

    Args:
        experiment: The place to run.
        base: What activations are put into.
        donor: What they are taken from.
        plan: For a batch, its first transplant is what the null control puts back.
        heads: Whether answers are right with sets of heads that are brackets too, by name.
        count: How many prompts; None takes all.

    Returns:
        `bracket` `[model, prompt]`: whether answers are right of `base`, `donor`, `NULL`, those of `heads`,
        `EVERYTHING`; `bracket.changed` `[prompt]`: whether the null control's answer is another than the recipient's.
    """
    prompts = experiment.task.prompts()[:count]
    batches = experiment.encoded(prompts)
    plans = [plan(batch) for batch in batches]
    given = [prompt_inputs(batch) for batch in batches]
    ends = [_end(donor, batch) for batch in batches]
    own = [{"prompts": here, "sites": plan.sites} for here, plan in zip(given, plans, strict=True)]
    asked = [{"prompts": here, "sites": sites} for here, sites in zip(given, ends, strict=True)]
    of_donor: list[Tensor] = []

    def filled() -> Iterator[dict[str, Any]]:
        """What the recipient is given for each batch: its own activations, and the donor's end."""
        reads = experiment.runner.map(base, read_sites, own), experiment.runner.map(donor, read_sites, asked)
        for here, plan, sites, mine, theirs in zip(given, plans, ends, *reads, strict=True):
            of_donor.append(theirs["prediction"])
            values, places = [*mine["values"], *theirs["values"]], [*plan.sites, *sites]
            patches = [{**site, "values": value} for site, value in zip(places, values, strict=True)]
            last = list(range(len(plan.sites), len(patches)))
            # Where z is held elsewhere, everything is at the last token, which is live.
            live = {} if plan.live is None else {"live": [[], plan.live[0], []]}
            yield {"prompts": here, "patches": patches, "variants": [[], plan.variants[0], last], **live}

    description = f"null and brackets {donor.name} -> {base.name}"
    taken = list(
        experiment.sessions(base, answer_patched, filled(), description, len(batches), {"gib": experiment.gib})
    )
    answers = torch.cat([batch.answers for batch in batches])
    plain, null, everything = torch.cat([answered["prediction"] for answered in taken], 1)
    rows = {"base": plain == answers, "donor": torch.cat(of_donor) == answers, NULL: null == answers}
    on = prompt_set(prompts)
    return {
        "bracket": stacked({**rows, **heads, EVERYTHING: everything == answers}, "model", on),
        "bracket.changed": Measurement(null != plain, (PROMPT,), {}, on),
    }


def _end(donor: Model, batch: EncodedBatch) -> Sequence[dict[str, Any]]:
    """The stream behind the last layer at the last token: what attention left there, and what the MLP adds."""
    layer, position = donor.anatomy["n_layers"] - 1, batch.positions[LAST]
    return [{"component": name, "layer": layer, "position": position} for name in ("resid_mid", "mlp_out")]
