"""A checkpoint on the device: it begins rows, takes their steps and decodes them."""

from collections.abc import Hashable
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor

from actors.engine import inpaint
from actors.engine.clock import Clock, Span
from actors.engine.conditions import Conditions
from actors.engine.control import Controls
from actors.engine.encode import Kept, Latents, drawn, moved, pixels_of, posterior_of, unscaled
from actors.engine.kernels import Kernels
from actors.engine.passes import Keeping, Pass, Under
from actors.engine.port import ControlInput, ReferenceInput, Row
from actors.engine.reference import References
from actors.engine.timetables import Noise

_WIDER: Final = "around"
"""The channels that a UNet made for masks sees beside the latents."""

Pipe = Any
"""diffusers' pipelines are not typed."""


class Parts:
    """What hangs on a UNet: of one checkpoint, loaded when a campaign wants it."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.controls, self.references = Controls(device, dtype), References(device, dtype)

    def clear(self) -> None:
        self.controls.clear()
        self.references.clear()


class Model:
    """Raises `Refused` (BAD_WEIGHTS) for a checkpoint that was trained with noise of another kind."""

    def __init__(self, pipe: Pipe, parts: Parts, kernels: Kernels, device: torch.device, clock: Clock) -> None:
        self.pipe, self._parts, self._kernels, self._device, self._clock = pipe, parts, kernels, device, clock
        self._noise, self._conditions = Noise(pipe.scheduler), Conditions(pipe, device, clock)
        self._sources: Kept[Latents] = Kept()
        self._edges: Kept[tuple[Tensor, ...]] = Kept()
        self._seen: Kept[tuple[Tensor, ...]] = Kept()
        self._wide = int(pipe.unet.config.in_channels) > int(pipe.vae.config.latent_channels)

    # a row begins

    def begun(self, name: Hashable, row: Row, text_state: Hashable) -> tuple[Under, dict[str, Tensor]]:
        """The row, and its tensors as a pass takes them. Without steps to take, its latents are those of the source.

        The row's generator draws as diffusers does: the source from its posterior, the noise, the masked source.
        """
        with self._clock.span() as span:
            generator = torch.Generator("cpu").manual_seed(row.seed)
            steps = self._noise.steps(row)
            source = drawn(self._source(row.source, row.size, row.picture), generator, self.pipe)
            tensors, keeping = {"latents": source}, None
            if steps:
                noise = moved(torch.randn(source.shape, generator=generator), self._device)
                tensors = {"latents": source + steps[0].sigma * noise, "x0": torch.zeros_like(source)}
                if self._wide:
                    tensors[_WIDER] = self._around(row, source, generator)
                elif row.mask is not None:
                    mask = inpaint.latent_mask(row.mask, source.shape[2], source.shape[3], self._device)
                    keeping = Keeping(mask, source, noise)
                tensors |= self._conditions.of(row, text_state) | self._parts_of(row)
        return Under(name, row, steps, generator, span, keeping), tensors

    def _source(self, name: Hashable, size: str, picture: Image.Image) -> Latents:
        key = (name, size)
        with self._clock.counted(self._clock.sources, hit=key in self._sources):
            return self._sources.get(key, lambda: self._posterior(pixels_of(picture, self._device)))

    def _posterior(self, pixels: Tensor) -> Latents:
        with self._kernels.vae():
            return posterior_of(self.pipe, pixels)

    def _around(self, row: Row, source: Tensor, generator: torch.Generator) -> Tensor:
        """Without a mask everything is painted over."""
        mask = row.mask or Image.new("L", row.picture.size, 255)
        posterior = self._posterior(moved(inpaint.masked_pixels(row.picture, mask), self._device))
        hidden = drawn(posterior, generator, self.pipe)
        latent = inpaint.latent_mask(mask, source.shape[2], source.shape[3], self._device)
        return inpaint.extra_channels(latent, hidden)

    def _parts_of(self, row: Row) -> dict[str, Tensor]:
        """For both halves of guidance."""
        found: dict[str, Tensor] = {}
        doubled = self._conditions.doubled(guided=row.group.guided)
        if row.control is not None:
            shown = self._shown(row, row.control)
            found["control"] = torch.cat([shown] * 2) if doubled else shown
        if row.references:
            seen = self._references(row.references)
            found["references"] = torch.cat([self._parts.references.nothing(), seen]) if doubled else seen
        return found

    def _shown(self, row: Row, control: ControlInput) -> Tensor:
        if control.picture is not None:
            return self._parts.controls.condition(control, row.picture)
        key = (row.source, row.size)
        return self._edges.get(key, lambda: (self._parts.controls.condition(control, row.picture),))[0]

    def _references(self, references: tuple[ReferenceInput, ...]) -> Tensor:
        names = tuple(reference.name for reference in references)
        return self._seen.get(names, lambda: (self._parts.references.embedding(references),))[0]

    # a step

    def step(self, rows: Pass) -> None:
        """One step of every row of the pass. In fp32, but for the UNet."""
        columns = {name: column.view(-1, 1, 1, 1) for name, column in rows.columns(self._device).items()}
        latents, before = rows.rows("latents"), rows.rows("x0")
        x0 = columns["p"] * latents + columns["q"] * self._out(rows, columns)
        latents.mul_(columns["a"]).add_(columns["b"] * x0).add_(columns["c"] * before)
        before.copy_(x0)
        for slot, under in rows.live:
            self._finish_step(latents[slot : slot + 1], under)

    def _finish_step(self, latents: Tensor, under: Under) -> None:
        """What only some rows do is done row by row, so that it changes nothing of the others."""
        step = under.step
        if step.d:
            latents.add_(moved(torch.randn(latents.shape, generator=under.generator), self._device), alpha=step.d)
        if (mask := under.keeping) is not None:
            latents.copy_(inpaint.kept(latents, mask.source, mask.noise, mask.mask, step.sigma_next))
        under.taken += 1

    def _out(self, rows: Pass, columns: dict[str, Tensor]) -> Tensor:
        """What the UNet gives, guided; (bucket, C, h, w), fp32."""
        doubled = self._conditions.doubled(guided=rows.group.guided)
        sample = rows.rows("latents") * columns["scale"]
        if _WIDER in rows:
            sample = torch.cat([sample, rows.rows(_WIDER)], dim=1)
        sample = sample.to(self._kernels.dtype)
        timesteps = columns["timestep"].flatten()
        if doubled:
            sample, timesteps = torch.cat([sample] * 2), torch.cat([timesteps] * 2)
        with self._kernels.attention():
            out = self._unet(rows, sample, timesteps, columns["control"].flatten())
        out = out.to(torch.float32, memory_format=torch.contiguous_format)
        if doubled:
            against, towards = out.chunk(2)
            out = against + columns["guidance"] * (towards - against)
        return out

    def _unet(self, rows: Pass, sample: Tensor, timesteps: Tensor, scales: Tensor) -> Tensor:
        text = rows.rows("text")
        added: dict[str, Any] = {"text_embeds": rows.rows("pooled"), "time_ids": rows.rows("sizes")}
        more: dict[str, Any] = {}
        if rows.group.control is not None:
            conditions, acts = rows.rows("control"), torch.cat([scales] * (len(sample) // len(scales)))
            down, mid = self._parts.controls.residuals(
                rows.group.control, sample, timesteps, text, added, conditions, acts
            )
            more = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        if "references" in rows:
            self._parts.references.on(self.pipe.unet, rows.group.reference_scale)
            added = {**added, "image_embeds": [rows.rows("references")]}
        else:
            self._parts.references.off(self.pipe.unet)
        told = rows.rows("told_guidance") if "told_guidance" in rows else None
        out: Tensor = self.pipe.unet(
            sample, timesteps, text, timestep_cond=told, added_cond_kwargs=added, return_dict=False, **more
        )[0]
        return out

    # a row ends

    def decoded(self, latents: Tensor) -> tuple[Tensor, Span]:
        """(3, H, W), fp32, -1 to 1, of (1, C, h, w); always alone, so that its bits don't depend on its neighbours."""
        with self._clock.span() as span, self._kernels.vae():
            vae = self.pipe.vae
            pixels: Tensor = vae.decode(unscaled(latents, self.pipe).to(vae.dtype), return_dict=False)[0][0].float()
        return pixels, span
