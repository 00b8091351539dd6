"""Do intervals cover as they say, and does the choice of heads find as few false ones as it says?

python jobs/simulate_intervals.py            some minutes on one core
python jobs/simulate_intervals.py --quick    a few runs of each, in seconds

1. Series of prompts in contexts of 7 are drawn, whose true mean, difference and ratio are known; counted is how often
   the 95 % interval holds it.
2. Heads are drawn of which none, or one, does something; counted is how often some head, or that one, is found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from rich.console import Console
from scipy.special import betaincinv
from torch import Tensor

from entitrack.core.statistics.estimates import Estimate, difference, estimate, ratio
from entitrack.core.table import Cell, Table
from entitrack.methods.path_patching.selection import select
from entitrack.methods.path_patching.settings import Choice
from entitrack.record.terminal import lay_out

CONTEXT_SIZE = 7
CORRELATIONS = (0.0, 0.1, 0.3)
SHARES = ((0.05, 0.1), (0.5, 0.5), (0.95, 0.9))
AGREEMENTS = (0.0, 0.7)
KINDS = ("mean", "difference", "ratio")
NULL_CORRELATION = 0.3
RATE = 0.05
WIDTH = 144
"""Of what is printed: a row a kind of data, a column a number of contexts and a correlation."""


@dataclass(frozen=True)
class Extent:
    """How much is simulated.

    Attributes:
        contexts: Numbers of contexts that intervals are tried with.
        runs: Runs for each cell of the table of coverage.
        search_contexts: Numbers of contexts that heads are searched with.
        searches: Number of heads -> runs for each cell of the table of searches.
    """

    contexts: tuple[int, ...]
    runs: int
    search_contexts: tuple[int, ...]
    searches: dict[int, int]


WHOLE = Extent((10, 20, 40, 72), 2000, (10, 40, 70), {24: 2000, 1024: 400})
QUICK = Extent((10, 40), 100, (10,), {24: 100})


@dataclass(frozen=True)
class Draw:
    """What series of two models on the same prompts look like.

    Attributes:
        first: What the first is.
        both: What both are.
        agreement: How often what is drawn for a prompt is the same for both.
        means: Their true means.
        series: Draws both for so many contexts, with a correlation within contexts.
    """

    first: str
    both: str
    agreement: float
    means: tuple[float, float]
    series: Callable[[np.random.Generator, int, float], tuple[Tensor, Tensor]]


def shares_of(first: float, second: float, agreement: float) -> Draw:
    """Right and wrong: contexts are as hard for both models, and prompts draw the same luck as often as they agree."""

    def series(rng: np.random.Generator, contexts: int, correlation: float) -> tuple[Tensor, Tensor]:
        rank, shape = rng.random(contexts), (contexts, CONTEXT_SIZE)
        luck = rng.random(shape)
        other_luck = np.where(rng.random(shape) < agreement, luck, rng.random(shape))
        chances = [chance_at(rank, share, correlation)[:, None] for share in (first, second)]
        right = [(drawn < chance).ravel() for drawn, chance in zip((luck, other_luck), chances, strict=True)]
        return torch.from_numpy(right[0]), torch.from_numpy(right[1])

    names = [_short(share, 2) for share in (first, second)]
    return Draw(f"share {names[0]}", f"shares {', '.join(names)}", agreement, (first, second), series)


def chance_at(rank: Float[np.ndarray, " context"], share: float, correlation: float) -> Float[np.ndarray, " context"]:
    """Chance of a right answer in contexts of these ranks: beta-distributed, so that prompts correlate within them."""
    if correlation == 0:
        return np.full(rank.shape, share)
    scale = (1 - correlation) / correlation
    chances: np.ndarray = betaincinv(share * scale, (1 - share) * scale, rank)
    return chances


def values_of(agreement: float) -> Draw:
    """Skewed values of mean 1: sums of what the context and the prompt bring, each the same for both or not."""

    def brought(rng: np.random.Generator, shape: Sequence[int], part: float) -> list[np.ndarray]:
        """Two gamma-distributed draws that have a share of what makes them in common."""
        common, *own = (rng.gamma(part * share, size=shape) for share in (agreement, 1 - agreement, 1 - agreement))
        return [common + one for one in own]

    def series(rng: np.random.Generator, contexts: int, correlation: float) -> tuple[Tensor, Tensor]:
        by_context = brought(rng, (contexts, 1), correlation)
        by_prompt = brought(rng, (contexts, CONTEXT_SIZE), 1 - correlation)
        first, second = (torch.from_numpy((one + own).ravel()) for one, own in zip(by_context, by_prompt, strict=True))
        return first, second

    return Draw("skewed values", "skewed values", agreement, (1.0, 1.0), series)


def coverage(draw: Draw, contexts: int, correlation: float, runs: int) -> dict[str, float]:
    """Kind of interval -> how often it holds the truth."""
    rng = np.random.default_rng([contexts, round(100 * correlation)])
    clusters = torch.arange(contexts).repeat_interleave(CONTEXT_SIZE)
    first, second = draw.means
    truths, held = (first, first - second, first / second), np.zeros(len(KINDS))
    for _ in range(runs):
        one, other = draw.series(rng, contexts, correlation)
        found = (estimate(one, clusters), difference(one, other, clusters), ratio(one, other, clusters))
        held += [holds(entry, truth) for entry, truth in zip(found, truths, strict=True)]
    return dict(zip(KINDS, (held / runs).tolist(), strict=True))


def holds(found: Estimate, truth: float) -> bool:
    """Whether an interval holds the truth; one that says that it has no end, or that there is no ratio, does."""
    return found.without is not None or found.low - 1e-12 <= truth <= found.high + 1e-12


def coverage_table(extent: Extent) -> Table:
    """Coverage by kind of interval and data (rows), number of contexts and correlation within them (columns)."""
    draws = [shares_of(*pair, agreement) for pair in SHARES for agreement in AGREEMENTS]
    draws += [values_of(agreement) for agreement in AGREEMENTS]
    cells = [(contexts, correlation) for contexts in extent.contexts for correlation in CORRELATIONS]
    found = [(draw, [coverage(draw, *cell, extent.runs) for cell in cells]) for draw in draws]
    rows = tuple(
        (kind, *_data(kind, draw), *(_short(by_kind[kind]) for by_kind in covered))
        for kind in KINDS
        for draw, covered in found
        if kind != "mean" or draw.agreement == AGREEMENTS[0]  # a mean is of the first alone
    )
    columns = (
        "interval of",
        "data",
        "alike",
        *(f"{contexts}/{_short(correlation, 1)}" for contexts, correlation in cells),
    )
    title = f"Coverage of 95 % intervals: contexts of {CONTEXT_SIZE}/correlation within them, {extent.runs} runs"
    return Table(title, columns, rows)


def _short(share: float, decimals: int = 3) -> str:
    """A share without the 0 in front."""
    return f"{share:.{decimals}f}".removeprefix("0")


def _data(kind: str, draw: Draw) -> tuple[str, str]:
    """What an interval is of, and how far both series agree."""
    return (draw.first, "") if kind == "mean" else (draw.both, f"{draw.agreement:g}")


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """As most averages are."""
    return rng.standard_normal(shape)


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Symmetric, with outliers: Student's t of 3 degrees of freedom."""
    return rng.standard_t(3, shape) / 3**0.5


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Mostly a little below 0, seldom far above: the sum of prompt and context has the skew of a gamma of 4."""
    return (rng.gamma(4, size=shape) - 4) / 2


def chosen(
    noise: Callable[..., np.ndarray], contexts: int, heads: int, effect: float, seed: int
) -> Bool[Tensor, "..."]:
    """Which of the heads are found, where the first lowers the answer by some deviations of a prompt."""
    rng = np.random.default_rng(seed)
    by_context = NULL_CORRELATION**0.5 * noise(rng, (contexts, 1, heads))
    by_prompt = (1 - NULL_CORRELATION) ** 0.5 * noise(rng, (contexts, CONTEXT_SIZE, heads))
    effects = torch.from_numpy(by_context + by_prompt).view(-1, 1, heads)
    effects[..., 0] -= effect
    clusters = torch.arange(contexts).repeat_interleave(CONTEXT_SIZE)
    found = torch.zeros(heads, dtype=torch.bool)
    found[[head for _, head in select(effects, clusters, 0.0, None, Choice(by="fdr", rate=RATE)).heads]] = True
    return found


def search_table(extent: Extent) -> Table:
    """How often some head is found where none does anything; and the one that does something."""
    rows: list[tuple[Cell, ...]] = []
    for contexts in extent.search_contexts:
        for heads, runs in extent.searches.items():
            null = [
                sum(bool(chosen(noise, contexts, heads, 0.0, run).any()) for run in range(runs)) / runs
                for noise in (normal, heavy, skewed)
            ]
            power = [
                sum(bool(chosen(normal, contexts, heads, effect, run)[0]) for run in range(runs)) / runs
                for effect in (0.5, 1.0, 2.0)
            ]
            rows.append((str(contexts), heads, *(_short(share) for share in (*null, *power))))
    columns = ("contexts", "heads", "none: normal", "heavy tails", "skewed", "one: 0.5 s", "1 s", "2 s")
    title = f"Runs in which a head is found, rate {RATE:g}: none does anything; or one does, by n s"
    return Table(title, columns, tuple(rows))


def main(arguments: Sequence[str]) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="Coverage of intervals, and discoveries among many heads.")
    parser.add_argument("--quick", action="store_true", help="a few runs of each, in seconds")
    extent = QUICK if parser.parse_args(arguments).quick else WHOLE
    console = Console(width=WIDTH)
    for table in (coverage_table, search_table):
        console.print(lay_out(table(extent)))


if __name__ == "__main__":
    main(sys.argv[1:])
