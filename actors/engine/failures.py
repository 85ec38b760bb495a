"""What torch raises, in our words."""

import torch

from actors.engine.port import EngineError, Poisoned, Refused
from schemas.report import FailureKind

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
    if isinstance(error, torch.OutOfMemoryError):
        return Refused(FailureKind.OUT_OF_VRAM, "out_of_vram", "The GPU has not enough memory for a pass of this size.")
    if isinstance(error, getattr(torch, "AcceleratorError", ())) or any(sign in str(error) for sign in _LOST):
        return Poisoned(_sentence(error))
    return Refused(FailureKind.ENGINE, "engine_error", _sentence(error))


def _sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else f"{type(error).__name__}."
