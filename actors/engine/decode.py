"""To 8 bits on the device, so that little has to be copied from it; the copy overlaps what follows."""

from collections.abc import Callable
from typing import Final

import torch
from PIL import Image
from torch import Tensor

from actors.engine.port import Refused
from schemas.report import Failure, FailureKind

BAD_PICTURE: Final = Failure(
    kind=FailureKind.BAD_PICTURE, code="picture_not_finite", detail="The checkpoint gave pixels that are not numbers."
)


def eight_bits(pixels: Tensor) -> Tensor:
    """(H, W, 3), uint8, of (3, H, W), -1 to 1."""
    return ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


class Copies:
    """Pictures on their way from the device."""

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def taken(self, pixels: Tensor) -> Callable[[], Image.Image] | None:
        """A call that gives the picture of *pixels* ((3, H, W), -1 to 1).

        On the CPU None when they are not numbers. A GPU is not waited for: there the call waits, from any thread, and
        raises `Refused` (BAD_PICTURE).
        """
        finite = torch.isfinite(pixels).all()
        if self._stream is None:
            array = eight_bits(pixels).numpy() if finite else None
            return None if array is None else lambda: Image.fromarray(array)
        return self._copied(self._stream, eight_bits(pixels), finite)

    @staticmethod
    def _copied(stream: torch.cuda.Stream, made: Tensor, finite: Tensor) -> Callable[[], Image.Image]:
        here = [torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in (made, finite)]
        stream.wait_stream(torch.cuda.current_stream(made.device))
        with torch.cuda.stream(stream):
            for to, value in zip(here, (made, finite), strict=True):
                to.copy_(value, non_blocking=True)
                value.record_stream(stream)  # its memory is not given to others before the copy is done
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(stream)

        def picture() -> Image.Image:
            copied.synchronize()
            if not here[1].item():
                raise Refused(BAD_PICTURE.kind, BAD_PICTURE.code, BAD_PICTURE.detail)
            return Image.fromarray(here[0].numpy())

        return picture
