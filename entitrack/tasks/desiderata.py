"""A task's desiderata: what a patched model should answer if the patched heads carry a given thing (section 5).

One's own, as `module:Class`, stand beside the task's; what they give is checked before a model sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from entitrack.core.errors import UserError, quoted, reason
from entitrack.core.names import check_name
from entitrack.tasks.checking import check_prompt, check_word
from entitrack.tasks.importing import import_named
from entitrack.tasks.protocol import Desideratum, DesideratumPair, Prompt, Task

_COUNTED = "n"
"""Head of a column that stands beside desiderata in tables."""


def find_desiderata(task: Task, names: Sequence[str] | None, place: str = "method.desiderata") -> list[Desideratum]:
    """Desiderata by name; a set's name stands for several, and None for the task's usual set.

    Raises:
        UserError: See `find_desideratum`; two have one name; or none is listed, or the task has none.
    """
    sets, own = task.desideratum_sets, {rule.name: rule for rule in task.desiderata}
    if names is None:
        if not sets:
            fix = "give it `desiderata`, or name one's own as module:Class"
            raise UserError(place, f"task {task.name!r} has no desiderata", fix=fix)
        names = [next(iter(sets))]
    found: dict[str, Desideratum] = {}
    for index, name in enumerate(names):
        where = f"{place}.{index}"
        for rule in [own[each] for each in sets[name]] if name in sets else [find_desideratum(task, name, where)]:
            if rule.name in found:
                raise UserError(where, f"desiderata are listed twice: {rule.name}")
            found[rule.name] = rule
    if not found:
        raise UserError(place, "no desideratum is listed", [*sets, *own])
    return list(found.values())


def find_desideratum(task: Task, name: str, place: str = "method.desiderata") -> Desideratum:
    """A desideratum of the task by its name, or a class of one's own by `module:Class`.

    Raises:
        UserError: There is no such name, module or class, or the class is no desideratum.
    """
    own = {rule.name: rule for rule in task.desiderata}
    if name in own:
        return own[name]
    known = [*task.desideratum_sets, *own]
    if ":" not in name:
        raise UserError(place, f"there is no desideratum {quoted(name)}", known, "or one's own as 'module:Class'")
    return _made(import_named(name, place), name, place, known)


def _made(made: Any, called: str, place: str, known: Sequence[str]) -> Desideratum:
    """What was imported, if it is a desideratum of a name that no other has."""
    try:
        rule = made() if isinstance(made, type) else made
        name, pairs = getattr(rule, "name", None), getattr(rule, "pairs", None)
    except (Exception, SystemExit) as error:
        raise UserError(place, f"{called} cannot be made without arguments ({reason(error)})") from error
    if not isinstance(name, str) or not callable(pairs):
        raise UserError(place, f"{called} is no desideratum", fix="give it a `name` and `pairs(prompts, seed)`")
    check_name(name, f"{place}, name of {called}", {*known, _COUNTED})
    return rule


def draw_pairs(
    rule: Desideratum, prompts: Sequence[Prompt], seed: int, published: bool = False, place: str = "method.desiderata"
) -> list[DesideratumPair]:
    """A desideratum's pairs, one for each prompt.

    Args:
        rule: The desideratum.
        prompts: The clean prompts.
        seed: Everything drawn is a function of it.
        published: As published code draws them, where the desideratum has that.
        place: The config key that named it.

    Raises:
        UserError: The desideratum fails, gives another number of pairs, or gives what is no pair: it is named.
    """
    named = f"desideratum {rule.name!r}"
    try:
        draw = getattr(rule, "published_pairs", rule.pairs) if published else rule.pairs
        pairs: Any = draw(prompts, seed)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(place, f"{named} gives no pairs ({reason(error)})") from error
    if not isinstance(pairs, Sequence):
        raise UserError(place, f"{named} gives {quoted(pairs)}, not a list of pairs")
    if len(pairs) != len(prompts):
        raise UserError(place, f"{named} gives {len(pairs)} pairs for {len(prompts)} prompts")
    for number, pair in enumerate(pairs):
        try:
            _check_pair(pair)
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(place, f"pair {number} of {named} is no pair ({reason(error)})") from error
    return list(pairs)


def _check_pair(pair: Any) -> None:
    """Refuse what a pair cannot hold.

    Raises:
        AttributeError: A part is missing.
        TypeError: A part is of another type.
        ValueError: A part has what it cannot have.
    """
    check_prompt("clean", pair.clean)
    check_prompt("counterfactual", pair.counterfactual)
    check_word("target", pair.target)
