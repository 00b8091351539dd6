"""Results made by hand, as they are when they have been read from disk."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor

from entitrack.core.measurement import PromptSet
from entitrack.core.result import Result


def prompt_set(count: int, contexts: int) -> PromptSet:
    """Prompts whose contexts take turns."""
    texts = tuple(f"prompt {number}" for number in range(count))
    return PromptSet(texts, tuple("answer" for _ in texts), torch.arange(count) % contexts)


def reloaded(result: Result) -> Result:
    """The result with facts that went through JSON and without artefacts, laid out."""
    return replace(result, facts=json.loads(json.dumps(result.facts)), artefacts={}).laid_out()


def line(drawn: Line2D) -> list[tuple[float, float]]:
    """The points of a line."""
    return [(float(x), float(y)) for x, y in np.asarray(drawn.get_xydata())]


def image(panel: Axes) -> Tensor:
    """The values of the picture in a panel; NaN where it is empty."""
    return torch.from_numpy(np.ma.filled(np.ma.asarray(panel.images[0].get_array()).astype(float), np.nan))
