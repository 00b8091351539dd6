"""What a reader must know of searches that were repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from entitrack.core.result import Result


def notes(result: Result) -> Sequence[str]:
    """How to read the tables, what is not independent, and what was not looked for."""
    over = list(result.facts["over"])
    return (
        "every search is path patching anew: its own prompts, its own receivers stage by stage",
        "Jaccard: share of the heads of either of two searches that both choose, mean over pairs; its chance and p:"
        " of random groups of these sizes (2000 drawn together)",
        "ranks: rank correlation of two searches' scores, mean over pairs, over heads that a path leads from",
        "95 % intervals take searches for independent trials (Clopper and Pearson); those of seeds are, given the model"
        + ("; halves of one set of contexts are not, and are too narrow" if "halves" in over else ""),
        f"written: chosen by at least {result.facts['least']} of the searches over {over[0]}; it is circuit.json",
        *_about_prompts(result),
        *_about_the_circuit(result),
        *_about_skipped(result),
    )


def _about_the_circuit(result: Result) -> Iterator[str]:
    """What of the circuit could not be found again, whatever the model does."""
    circuit, stages = result.facts["circuit"], result.facts["stages"]
    if circuit is None:
        yield "no circuit was named, and none of this task ships with the base: circuit=FILE is one to look for again"
        return
    halves = result.facts["over"].get("halves", ())
    same = [name for name in circuit["same_prompts"] if name not in halves]
    if same:
        yield f"{circuit['name']} was found on the prompts of {', '.join(same)}, which finds nothing again"
    if set(halves) & set(circuit["same_prompts"]):
        yield f"halves are of the prompts that {circuit['name']} was found on, or of some of them"
    otherwise = [group for group in circuit["groups"] if group["why_not"]]
    for group in otherwise:
        yield f"group {group['name']} of {circuit['name']} {group['why_not']}: not held against it"
    if otherwise:
        yield "method.stages may say the stages that it was found by (found_on in its file)"
    for group in circuit["groups"]:
        size, heads = stages.get(group["name"], {}).get("size"), len(group["heads"])
        if group["why_not"] is None and size is not None and size < heads:
            yield f"group {group['name']} of {circuit['name']} has {heads} heads, and a search chooses {size} at most"


def _about_prompts(result: Result) -> Iterator[str]:
    """Whether other seeds are other prompts: a file has the same, whatever the seed."""
    seeds = result.facts["over"].get("seeds", ())
    texts = {each["texts"] for each in result.facts["searches"] if each["name"] in seeds}
    if len(seeds) > 1 and len(texts) == 1:
        yield "warning: prompts are the same on every seed, and only their counterfactuals differ"


def _about_skipped(result: Result) -> Iterator[str]:
    """Stages that did not run, and in how many searches."""
    searches = result.facts["searches"]
    for stage in result.facts["stages"]:
        skipped = [each for each in searches if stage in each["skipped"]]
        if skipped:
            why = skipped[0]["skipped"][stage]
            yield f"group {stage} is empty in {len(skipped)} of {len(searches)} searches: {why}"
