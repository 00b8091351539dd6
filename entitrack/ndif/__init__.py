"""Running on a server that speaks nnsight's protocol: jobs, retries, budgets, checks before the first job."""

from entitrack.ndif.backend import Ndif
from entitrack.ndif.settings import Settings

__all__ = ["Ndif", "Settings"]
