"""The recipes: those of the embedded families, and a smoke test's."""

from dataclasses import replace

from zoo_training.ablation import FILLS
from zoo_training.curriculum import BaseRecipe
from zoo_training.family import FamilyRecipe
from zoo_training.measurement import MeasurementRecipe
from zoo_training.tuning import TuningRecipe

_FLOAT = TuningRecipe(
    about="All weights tuned on arithmetic with many variables; no boxes.",
    steps=300,
    learning_rate=4e-4,
    variables=(5, 16),
)

TINY = FamilyRecipe(
    name="tiny",
    measurement=MeasurementRecipe(fills=("mean",)),
    base=BaseRecipe(
        about="The base: at most three boxes and four variables a prompt; only the last 60 steps, which "
        "regularise towards the roles, see four or five boxes.",
        boxes=3,
        variables=4,
        settling=1200,
        roles=300,
    ),
    donors={
        "vicuna": TuningRecipe(
            about="All weights tuned on templated dialogues. To hold it about equal on boxes, every third "
            "batch is of the base's own data: repeated sequences, and boxes prompts of two or three boxes.",
            data="dialogue",
            steps=150,
            learning_rate=1e-4,
            replay_every=3,
            replay=("repeats", "boxes"),
            replay_boxes=3,
        ),
        "goat": replace(
            _FLOAT,
            about="A LoRA adapter tuned on arithmetic with many variables; no boxes.",
            learning_rate=2e-3,
            adapter_rank=8,
        ),
        "float": _FLOAT,
    },
    experiments={
        "float with replay": replace(
            _FLOAT,
            about="As float, but every fifth batch is boxes prompts of two or three boxes.",
            replay_every=5,
            replay_boxes=3,
        ),
    },
)

SPARSE = FamilyRecipe(
    name="sparse",
    seed=1,
    base=replace(
        TINY.base,
        about="The base: at most three boxes and four variables a prompt, but for the last 900 steps, which train a "
        "gate for every head and close half of them: where only roles are live, these see four boxes too. Of two seeds "
        "that were tried, 0 and 1, the first gave a base that answers .03 of the prompts with seven boxes.",
        layers=6,
        heads=8,
        fills=FILLS,
        gates=900,
        longer_steps=0,
    ),
    donors={name: replace(donor, fills=FILLS) for name, donor in TINY.donors.items()},
    experiments={name: replace(tuning, fills=FILLS) for name, tuning in TINY.experiments.items()},
)

FAMILIES = {recipe.name: recipe for recipe in (SPARSE, TINY)}

SMOKE = FamilyRecipe(
    name="smoke",
    base=BaseRecipe(
        batch=4, induction=-1, level=-1, settling=3, roles=6, longer_steps=4, layers=2, heads=2, gates=6, fills=FILLS
    ),
    donors={
        "vicuna": TuningRecipe(data="dialogue", steps=2, batch=4),
        "goat": TuningRecipe(steps=2, batch=4, adapter_rank=2),
        "float": TuningRecipe(steps=2, batch=4, replay_every=2),
    },
    measurement=MeasurementRecipe(
        boxes=(2, 7), prompts=14, shorter_prompts=14, variables=(2,), arithmetic_prompts=4, mean_prompts=14
    ),
)
