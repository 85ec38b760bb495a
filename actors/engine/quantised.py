"""Opt-in fp8 (e4m3) for the Linear layers of the UNet's transformer blocks. Lossy, and named in the provenance.

Weights are scaled by row and activations by token, both to the largest magnitude; products are summed in fp32. The
weight in full precision stays beside its fp8 copy, because LoRAs are merged into it: this buys time, not memory.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import ScalingType, scaled_mm

LARGEST: Final = 448.0
"""Of e4m3 (OCP 8-bit floating point specification 1.0)."""

_TINY: Final = 1e-12
_MULTIPLE: Final = 16
"""`scaled_mm` takes only widths that are multiples."""

_BY_ROW: Final = ScalingType.RowWise


class Fp8Linear(nn.Linear):
    """Reads ``weight`` only in `requantise`: call it after each change."""

    weight8: Tensor
    scale: Tensor

    @classmethod
    def of(cls, linear: nn.Linear) -> "Fp8Linear":
        made = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        made.weight, made.bias = linear.weight, linear.bias
        rows, columns = linear.weight.shape
        device = linear.weight.device
        made.register_buffer("weight8", torch.empty(rows, columns, dtype=torch.float8_e4m3fn, device=device), False)
        made.register_buffer("scale", torch.empty(rows, 1, dtype=torch.float32, device=device), False)
        made.requantise()
        return made

    @torch.no_grad()
    def requantise(self) -> None:
        """In place: what holds the addresses of these tensors stays valid."""
        quantised, scale = rows_to_fp8(self.weight)
        self.weight8.copy_(quantised)
        self.scale.copy_(scale)

    def forward(self, tokens: Tensor) -> Tensor:
        rows, scale = rows_to_fp8(tokens.flatten(0, -2))
        product = scaled_mm(rows, self.weight8.t(), scale, _BY_ROW, self.scale.t(), _BY_ROW, output_dtype=tokens.dtype)
        if self.bias is not None:
            product = product + self.bias
        return product.view(*tokens.shape[:-1], self.out_features)


def rows_to_fp8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(n, m) as e4m3 of the same shape, and the factors (n, 1) that bring it back, fp32."""
    full = rows.float()
    scale = full.abs().amax(dim=1, keepdim=True).clamp(min=_TINY) / LARGEST
    return (full / scale).to(torch.float8_e4m3fn), scale


def to_fp8(unet: nn.Module) -> int:
    """Replaces the Linear layers of the transformer blocks; how many. Others are left alone."""
    replaced = 0
    for name, module in list(unet.named_modules()):
        if ".transformer_blocks." not in f".{name}" or type(module) is not nn.Linear:
            continue
        if module.in_features % _MULTIPLE or module.out_features % _MULTIPLE:
            continue
        parent, _, last = name.rpartition(".")
        setattr(unet.get_submodule(parent), last, Fp8Linear.of(module))
        replaced += 1
    return replaced
