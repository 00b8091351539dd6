"""What is drawn in a figure, as values."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor


def points(drawn: Line2D) -> list[tuple[float, float]]:
    """The points of a curve."""
    return [(float(x), float(y)) for x, y in np.asarray(drawn.get_xydata())]


def image(panel: Axes) -> Tensor:
    """The values of the picture in a panel; NaN where it is empty."""
    return torch.from_numpy(np.ma.filled(np.ma.asarray(panel.images[0].get_array()).astype(float), np.nan))
