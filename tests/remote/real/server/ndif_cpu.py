"""NDIF's own actors on a machine without a GPU: what touches CUDA is left out, the rest is NDIF's.

Nothing of ndif is changed on disk; its settings name the classes of this module. The project is not importable here.
"""

import collections
import json
import os
import time
from typing import Any

import ray
import torch
from ndif.services.ray.deployments.controller.controller import _ControllerActor
from ndif.services.ray.deployments.modeling.base import BaseModelDeployment
from ndif.services.ray.sandbox import protocol
from ndif.services.ray.sandbox.model import SandboxModelDeployment
from nnsight.modeling.huggingface import HuggingFaceModel
from nnsight.modeling.mixins.remotable import Remotable

torch.cuda.synchronize = lambda *_: None  # called by cleanup(), to_cache() and from_cache()
torch.set_num_threads(1)


def _without_trust(method: Any) -> classmethod:
    asked = method.__func__
    return classmethod(lambda cls, *given, trust_remote_code=None, **named: asked(cls, *given, **named))


def mend() -> None:
    """Drop a keyword that ndif 0.1.2 sends and nnsight 0.8.1 does not know: there it is in the model's key."""
    for name in ("describe_checkpoint", "max_tp_size"):
        setattr(Remotable, name, _without_trust(Remotable.__dict__[name]))


@ray.remote(num_cpus=1, num_gpus=0, max_restarts=-1, resources={"head": 1})
class CpuController(_ControllerActor):
    def __init__(self, *given: Any, **named: Any) -> None:
        mend()
        super().__init__(*given, **named)


# -- a model on the CPU ----------------------------------------------------------------------------------------------


class OnCpu(BaseModelDeployment):
    """`load_from_disk` without device limits, device maps and the check that everything is on a GPU."""

    def load_from_disk(self) -> Any:
        model = HuggingFaceModel.from_model_key(
            self.model_key, dispatch=True, dtype=self.dtype_name, device="cpu", **self.kwargs
        )
        model._module.requires_grad_(False)
        return model


# -- counting what crosses the sandbox's socket, for measuring only --------------------------------------------------

COUNTS: collections.Counter = collections.Counter()


def count() -> None:
    """Count messages and bytes, both ways, from now on."""
    sent, received = protocol.Channel.send_raw, protocol.Channel.recv_raw

    def send_raw(self: Any, data: bytes) -> None:
        COUNTS.update({"messages": 1, "bytes": len(data)})
        sent(self, data)

    def recv_raw(self: Any, timeout: Any = None) -> bytes:
        data = received(self, timeout)
        COUNTS.update({"messages": 1, "bytes": len(data)})
        return data

    protocol.Channel.send_raw, protocol.Channel.recv_raw = send_raw, recv_raw


class CpuSandbox(SandboxModelDeployment, OnCpu):
    """An actor that notes what each of its jobs took."""

    def __init__(self, *given: Any, **named: Any) -> None:
        count()
        super().__init__(*given, **named)

    def execute(self, request: Any) -> Any:
        COUNTS.clear()
        begun = time.time()
        try:
            return super().execute(request)
        finally:
            line = {"id": request.id, "trusted": request.trusted, "seconds": round(time.time() - begun, 3), **COUNTS}
            with open(os.environ["NDIF_RUN"] + "/counts.jsonl", "a") as stream:
                stream.write(json.dumps(line) + "\n")


@ray.remote(num_cpus=1, max_restarts=-1)
class CpuSandboxModelActor(CpuSandbox):
    pass
