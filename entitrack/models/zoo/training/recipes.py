"""The recipes: the published family's, and a smoke test's."""

from entitrack.models.zoo.training.curriculum import BaseRecipe
from entitrack.models.zoo.training.family import FamilyRecipe
from entitrack.models.zoo.training.measurement import MeasurementRecipe
from entitrack.models.zoo.training.tuning import TuningRecipe

PUBLISHED = FamilyRecipe(
    donors={
        "vicuna": TuningRecipe(data="dialogue"),
        "goat": TuningRecipe(learning_rate=1e-3, adapter_rank=4),
        "float": TuningRecipe(),
    },
)

SMOKE = FamilyRecipe(
    base=BaseRecipe(batch=4, induction=-1, level=-1, settling=3, roles=6),
    donors={
        "vicuna": TuningRecipe(data="dialogue", steps=2, batch=4),
        "goat": TuningRecipe(steps=2, batch=4, adapter_rank=2),
        "float": TuningRecipe(steps=2, batch=4, replay_every=2),
    },
    measurement=MeasurementRecipe(boxes=(2, 7), prompts=14, shorter_prompts=14, variables=(2,)),
)
