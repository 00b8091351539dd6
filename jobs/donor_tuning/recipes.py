"""All numbers of a donor's tuning."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How one adapter is tuned; with the base's bytes and the number of threads it fixes every weight.

    Attributes:
        kind: What it reads, see `corpora`.
        about: What the card says of it.
        steps: Batches seen.
        learning_rate: Of AdamW; it falls to a tenth along the way.
        rank: Of the adapter, on every linear layer of the decoder; alpha is twice the rank.
        rows: Texts of a batch.
        plain: Weight of the loss on all words beside that on answers.
        phrasing: How boxes are put into words, where there are any.
        boxes: Fewest and most boxes of a context.
        variables: Fewest and most variables of an arithmetic text.
        seed: Of everything drawn.
    """

    kind: str
    about: str
    steps: int = 60
    learning_rate: float = 5e-4
    rank: int = 8
    rows: int = 4
    plain: float = 0.1
    phrasing: str = "object_first"
    boxes: tuple[int, int] = (2, 7)
    variables: tuple[int, int] = (2, 6)
    seed: int = 0


RECIPES = {
    recipe.kind: recipe
    for recipe in (
        Recipe("arithmetic", "Sums, differences and look-ups of variables; no box is in it."),
        Recipe(
            "placebo",
            "Texts of arithmetic with answers of other such texts: the same form and lengths, nothing to look up.",
        ),
        Recipe(
            "boxes",
            "Positive control: boxes of the training half of all contexts, every box asked for.",
            learning_rate=1e-3,
            phrasing="label_first",
        ),
        Recipe("dialogue", "Short dialogues about the task's objects; no box is in them."),
    )
}
