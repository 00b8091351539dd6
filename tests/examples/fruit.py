"""Which fruit is where? `Box A contains the apple, Box B contains the egg. Box B contains the` -> egg."""

from random import Random

from entitrack.tasks import DesideratumPair, Edge, Field, Pair, Stage, TaskSettings, written


def ask(number, baskets, draw, asked=None):
    random, parts = Random(f"{number}/{draw}"), []
    names, chosen = random.sample("ABCDEFGHIJKL", baskets), random.randrange(baskets)
    fruits = random.sample(["apple", "bread", "cake", "egg", "fish", "meat", "milk", "tea"], baskets)
    for place, (name, fruit) in enumerate(zip(names, fruits, strict=True)):
        whose = "" if place == chosen else "other "
        parts += [", Box " if parts else "Box ", (f"{whose}basket", name), " contains the ", (f"{whose}fruit", fruit)]
    parts += [". Box ", ("asked", asked or names[chosen]), " contains the"]
    return written(parts, fruits.pop(chosen), fruits, facets={"place": chosen}, cluster=number)


class FruitValue:
    """The heads carry the fruit itself: the patched run answers the counterfactual's fruit."""

    name = "fruit_value"

    def pairs(self, prompts, seed):
        drawn = [(clean, ask(clean.cluster, len(clean.alternatives) + 1, seed + 1)) for clean in prompts]
        return [DesideratumPair(clean, other, target=other.answer) for clean, other in drawn]


class Fruit(TaskSettings):
    count: int = Field(64, ge=1, description="prompts")
    baskets: int = Field(7, ge=2, le=8, description="baskets in a context")
    stages = (Stage(name="fetcher", role="last"), Stage(name="asker", role="last", component="q", receivers="fetcher"))
    edges, desiderata = (Edge(source="last", target="asked"),), (FruitValue(),)

    def prompts(self):
        return [ask(number, self.baskets, draw=0) for number in range(self.count)]

    def pairs(self):
        return [Pair(clean, ask(clean.cluster, self.baskets, draw=1, asked="Z")) for clean in self.prompts()]
