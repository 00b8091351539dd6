"""The most memory that this process has held since it began: of the machine's, and of its accelerators'."""

from __future__ import annotations

import sys


def peak_memory() -> dict[str, int]:
    """Bytes: `memory`, what was resident, and `accelerator`, tensors on all of them; what is not known is left out."""
    peak: dict[str, int] = {}
    try:
        import resource
    except ImportError:  # Windows has none
        pass
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        peak["accelerator"] = sum(torch.cuda.max_memory_allocated(one) for one in range(torch.cuda.device_count()))
    return peak
