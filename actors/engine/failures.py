"""What torch raises, in our words."""

import torch

from actors.engine.port import EngineError, Poisoned, Refused
from schemas.report import FailureKind

_NO_ROOM = ("CUDA error: out of memory", "_ALLOC_FAILED", "ALLOCATION_FAILED")
"""Of memory that torch's own allocator does not hand out, as the workspaces of cuBLAS and cuDNN. No context is lost."""

_LOST = (
    "CUDA error",
    "device-side assert",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_EXECUTION_FAILED",
)
"""After these every further call of the process fails as well."""


def mapped(error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    return of_device(error) or Refused(FailureKind.ENGINE, "engine_error", _sentence(error))


def of_device(error: Exception) -> EngineError | None:
    """None when it is not the GPU that raised it."""
    if isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in _NO_ROOM):
        return Refused(FailureKind.OUT_OF_VRAM, "out_of_vram", "The GPU has not enough memory for a pass of this size.")
    if isinstance(error, getattr(torch, "AcceleratorError", ())) or any(sign in str(error) for sign in _LOST):
        return Poisoned(_sentence(error))
    return None


def _sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else f"{type(error).__name__}."
