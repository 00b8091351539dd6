"""Prompts drawn beside the clean ones: counterfactuals of path patching, and backgrounds of mean ablation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from entitrack.tasks.boxes.contexts import draw_context
from entitrack.tasks.boxes.phrasings import OBJECT_FIRST, Phrasing
from entitrack.tasks.boxes.prompts import BoxesContext, BoxesPrompt
from entitrack.tasks.boxes.vocabulary import OBJECTS
from entitrack.tasks.protocol import Pair


def background(
    random: Random, context: BoxesContext, cluster: int, phrasing: Phrasing = OBJECT_FIRST, examples: str = ""
) -> BoxesPrompt:
    """A context with a random letter in its question, which may or may not be in it."""
    origin = f"prompt {cluster} with random content"
    query, label = random.randrange(len(context.boxes)), random.choice(phrasing.labels)
    return BoxesPrompt(context, query, label, cluster, origin, phrasing, examples)


def counterfactual_origin(clean: BoxesPrompt) -> str:
    """Where a counterfactual that is drawn for a prompt comes from."""
    return f"counterfactual of {clean.origin}" if clean.origin else ""


def counterfactual_pairs(
    prompts: Sequence[BoxesPrompt], seed: int, objects: Sequence[str] = OBJECTS, published: bool = False
) -> list[Pair]:
    """Give every prompt a counterfactual whose question nothing in it answers (paper, appendix B).

    The counterfactual has other objects and letters than the clean prompt, as many boxes in the same words, and
    asks for a letter that is in neither context. Its `prev_query_label` and `correct_object` belong to a box
    drawn at random once per prompt: there is no right one.

    Args:
        prompts: Clean prompts.
        seed: Everything drawn is a function of it.
        objects: What may be in a counterfactual's boxes.
        published: Draw contexts and question letters at random, whatever the clean prompt has.
    """
    random = Random(f"counterfactual/{seed}/{'paper' if published else 'default'}")
    pairs = []
    for prompt in prompts:
        boxes = len(prompt.context.boxes)
        avoid = None if published else prompt.context
        labels = prompt.phrasing.labels
        context = draw_context(random, boxes, avoid=avoid, objects=objects, labels=labels)
        taken = () if published else (*context.labels, *prompt.context.labels)
        label = random.choice([letter for letter in labels if letter not in taken])
        origin = counterfactual_origin(prompt)
        query = random.randrange(boxes)
        other = replace(prompt, context=context, query=query, label=label, origin=origin)
        pairs.append(Pair(prompt, other))
    return pairs
