"""Running on a server that speaks nnsight's protocol: jobs, retries, budgets, checks before the first job."""

from entitrack.runtime.ndif.backend import Ndif
from entitrack.runtime.ndif.settings import Settings

__all__ = ["Ndif", "Settings"]
