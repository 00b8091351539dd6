"""Tests of many things at once, over contexts, with false discoveries controlled."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import stdtr
from torch import Tensor

from entitrack.core.statistics.contexts import standard_error


def p_values_below(
    bound: float, values: Float[Tensor, "prompt test"], clusters: Int[Tensor, " prompt"]
) -> Float[np.ndarray, " test"]:
    """One-sided p-values of means over prompts that are not below a bound.

    Student's t over contexts: its tail has no least p-value, as those of resampling (1 / resamples) and of flipping
    the signs of contexts (2 to the minus contexts) have. 1 for one context, or what is not a number.
    """
    contexts = len(torch.unique(clusters))
    apart = values.double().mean(0).numpy() - bound
    if contexts < 2:
        return np.ones(len(apart))
    errors = standard_error(values, clusters).double().numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        p_values: np.ndarray = np.nan_to_num(stdtr(contexts - 1, apart / errors), nan=1.0)
    return p_values


def q_values(p_values: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """The least false discovery rate at which each test is a discovery (Benjamini and Hochberg).

    Of n tests, the k lowest p-values are discoveries at a rate if the k-th is at most `rate * k / n`.
    """
    order = np.argsort(p_values)
    scaled = p_values[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
    return adjusted
