"""What a renderer renders on, as its driver tells it; without NVIDIA's, the machine as the operating system sees it.

A figure that the driver does not give is None: small GPUs count no memory errors, a part of a GPU (MIG) draws no power
of its own. Nothing in here may fail or hold up a renderer, so its errors end here.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, TypeVar

import psutil
import pynvml  # type: ignore[import-untyped]

from schemas.report import Device

EVERY = 1.0
"""Seconds for which a look at the device is good enough."""

PATIENCE = 2.0
"""Seconds that whoever begins a look waits for it. It takes milliseconds, or for ever when a GPU has left the bus."""

STALE = 30.0
"""Seconds after which a look that does not end takes back what the last one said."""

REASONS: Mapping[str, int] = {
    "power": pynvml.nvmlClocksThrottleReasonSwPowerCap | pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
    "thermal": pynvml.nvmlClocksThrottleReasonSwThermalSlowdown | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
    "hardware": pynvml.nvmlClocksThrottleReasonHwSlowdown,
}
"""Bits by which NVML says why clocks are held down. Those left out are no trouble: idle, or set so by someone."""

F = TypeVar("F")


class Sampler:
    """*device* is as in `RendererSettings`; *visible* the value of CUDA_VISIBLE_DEVICES, None when it is not set."""

    def __init__(
        self, device: str = "auto", *, visible: str | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._device, self._visible, self._monotonic = device, visible, monotonic
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._ended.set()
        self._last, self._due = Device(), -inf
        self._machine = Machine()  # now, so that its first look knows what the CPU did since
        self._read: Callable[[], Device] | None = None  # found at the first look: until then the driver is left alone

    def read(self) -> Device:
        """A new look, or the last one: when that is fresh, and while the new one does not come to its end."""
        if self._begin():
            self._ended.wait(PATIENCE)
        if not self._ended.is_set() and self._monotonic() >= self._due + STALE:
            return Device()
        return self._last

    def _begin(self) -> bool:
        """In a thread of its own: a driver that hangs must not take the renderer's collector with it."""
        with self._lock:
            if not self._ended.is_set() or self._monotonic() < self._due:
                return False
            self._due = self._monotonic() + EVERY
            self._ended.clear()
        threading.Thread(target=self._look, name="device", daemon=True).start()
        return True

    def _look(self) -> None:
        try:
            self._read = self._read or self._found()
            self._last = self._read()
        except Exception:  # noqa: BLE001 - whatever a driver does wrong, pictures are made all the same
            self._last = Device()
        finally:
            self._ended.set()

    def _found(self) -> Callable[[], Device]:
        name = own(self._device, self._visible)
        if name is None:
            return self._machine.read
        try:
            pynvml.nvmlInit()
            return Gpu(_handle(name)).read
        except pynvml.NVMLError:  # no driver, or not this GPU
            return self._machine.read


def sampler(device: str) -> Sampler:
    """For the GPU that this process may use: Ray has said which in CUDA_VISIBLE_DEVICES."""
    return Sampler(device, visible=os.environ.get("CUDA_VISIBLE_DEVICES"))


def own(device: str, visible: str | None) -> str | None:
    """The GPU that a renderer has: an index, a UUID or the UUID of a part. None: it has none.

    An index counts as NVML counts, by place on the bus. CUDA does so when CUDA_DEVICE_ORDER says so; without, it puts
    the fastest first, which is the same where all GPUs of a machine are of one type.
    """
    number = int(device.partition(":")[2] or 0)
    if device == "cpu":
        return None
    if visible is None:
        return str(number)
    names = [name.strip() for name in visible.split(",")]
    found = names[number] if number < len(names) else ""
    return found if found.startswith(("GPU-", "MIG-")) or found.isdecimal() else None


def _handle(name: str) -> Any:
    if name.isdecimal():
        return pynvml.nvmlDeviceGetHandleByIndex(int(name))
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(name)
    except pynvml.NVMLError:  # CUDA takes the beginning of a UUID, too
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            if pynvml.nvmlDeviceGetUUID(handle).startswith(name):
                return handle
        raise


class Gpu:
    """One GPU, or a part of one. Power, energy and load are known of the whole only: of a part they are left out."""

    def __init__(self, handle: Any) -> None:
        self._handle = self._whole = handle
        self._part = bool(_asked(lambda: pynvml.nvmlDeviceIsMigDeviceHandle(handle)))
        if self._part:
            self._whole = pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
        self._uuid = _asked(lambda: str(pynvml.nvmlDeviceGetUUID(handle))) or ""

    def read(self) -> Device:
        handle, whole = self._handle, self._whole
        memory = _asked(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
        return Device(
            uuid=self._uuid,
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            temperature_celsius=_asked(
                lambda: float(pynvml.nvmlDeviceGetTemperature(whole, pynvml.NVML_TEMPERATURE_GPU))
            ),
            throttled=_reasons(_asked(lambda: int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(whole))) or 0),
            ecc_corrected=self._errors(pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ecc_uncorrected=self._errors(pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            **({} if self._part else self._load()),
        )

    def _load(self) -> dict[str, float | None]:
        handle = self._handle
        return {
            "utilisation": _asked(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
            "power_watts": _asked(lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000),
            "power_limit_watts": _asked(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000),
            "energy_joules": _asked(lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000),
        }

    def _errors(self, kind: int) -> int | None:
        """Volatile ones: counted since the driver was loaded."""
        handle = self._handle
        return _asked(lambda: int(pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, pynvml.NVML_VOLATILE_ECC)))


class Machine:
    """CPU time between two looks, whoever used it, and memory that no program could have any more."""

    def __init__(self) -> None:
        self._busy, self._all = _cpu_seconds()

    def read(self) -> Device:
        before, (self._busy, self._all) = (self._busy, self._all), _cpu_seconds()
        passed, memory = self._all - before[1], psutil.virtual_memory()
        return Device(
            utilisation=min(1.0, max(0.0, (self._busy - before[0]) / passed)) if passed > 0 else None,
            memory_used_bytes=memory.total - memory.available,
            memory_total_bytes=memory.total,
        )


def _cpu_seconds() -> tuple[float, float]:
    """What all CPUs have worked, and what has passed on all of them."""
    times = psutil.cpu_times()
    past = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)  # those are in user and nice
    return past - times.idle - getattr(times, "iowait", 0.0), past


def _reasons(bits: int) -> tuple[str, ...]:
    return tuple(reason for reason, mask in REASONS.items() if bits & mask)


def _asked(question: Callable[[], F]) -> F | None:
    """None when the driver cannot say, or not now."""
    try:
        return question()
    except pynvml.NVMLError:
        return None
