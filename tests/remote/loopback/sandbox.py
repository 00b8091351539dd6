"""What code of a key that is not trusted lacks at NDIF, where the model is in another process: lacking here too."""

from __future__ import annotations

import sys
from typing import Any

import torch
from nnsight.intervention.envoy import Envoy
from nnsight.intervention.interleaver import Interleaver

META = torch.device("meta")


class Sandbox:
    """While it is entered, models are as from another process.

    1. Their device is `meta`.
    2. Modules are called in traces alone.
    3. A cache that is handed in stays empty.
    4. Nothing has a gradient.

    That weights are on `meta` as well is left out: modules run beside the code here.
    """

    def __init__(self) -> None:
        self._entered, self._traces = False, 0
        self._no_gradients = torch.no_grad()
        self._device: Any = Envoy.device
        begin, end = Interleaver.__enter__, Interleaver.__exit__

        def begun(interleaver: Interleaver) -> Interleaver:
            self._traces += 1
            return begin(interleaver)

        def ended(interleaver: Interleaver, *error: Any) -> bool:
            self._traces -= 1
            return end(interleaver, *error)

        Interleaver.__enter__, Interleaver.__exit__ = begun, ended  # type: ignore[method-assign]

    def enclose(self, model: Any) -> None:
        """Have a model heed it."""
        model._module.register_forward_pre_hook(self._without_cache, with_kwargs=True)
        for module in model._module.modules():
            module.register_forward_pre_hook(self._check)

    def __enter__(self) -> None:
        self._entered, self._traces = True, 0
        Envoy.device = property(self._device_there)  # type: ignore[assignment, method-assign]
        self._no_gradients.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._no_gradients.__exit__(*error)
        Envoy.device = self._device
        self._entered = False

    def _device_there(self, envoy: Envoy) -> Any:
        """The device as the session's code sees it; nnsight itself moves inputs to where the model is."""
        asked_by = str(sys._getframe(1).f_globals.get("__name__"))
        return self._device.fget(envoy) if asked_by.partition(".")[0] == "nnsight" else META

    def _without_cache(self, module: Any, args: Any, kwargs: Any) -> Any:
        return (args, {**kwargs, "past_key_values": None}) if self._entered and "past_key_values" in kwargs else None

    def _check(self, module: Any, args: Any) -> None:
        if self._entered and not self._traces:
            raise AttributeError("'NoneType' object has no attribute 'switch'")
