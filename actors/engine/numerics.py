"""The numerics key: under the same one, the same recipe gives the same pixels."""

import re
from pathlib import Path

import diffusers
import torch
import transformers

from actors.engine.kernels import Kernels


def gpu_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def numerics(device: torch.device, kernels: Kernels) -> str:
    """All but the bucket, which a pass adds: ``batch=4``."""
    place = _cuda() if device.type == "cuda" else _cpu()
    libraries = f"torch={torch.__version__} diffusers={diffusers.__version__} transformers={transformers.__version__}"
    return f"{gpu_name(device)} {place} {libraries} {kernels}"


def _cuda() -> str:
    """What besides the GPU itself chooses the kernels."""
    driver = Path("/proc/driver/nvidia/version")
    found = re.search(r"Module\s+(?:for \S+\s+)?([\d.]+)", driver.read_text()) if driver.exists() else None
    version = found[1] if found else "unknown"
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return f"driver={version} cuda={torch.version.cuda} cudnn={cudnn}"


def _cpu() -> str:
    return f"threads={torch.get_num_threads()} isa={torch.backends.cpu.get_cpu_capability()}"
