"""What a renderer says of its GPU: the real calls, into a library that stands for the driver's; and of a machine."""

import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil
import pynvml  # type: ignore[import-untyped]
import pytest

from actors.device import EVERY, STALE, Machine, Sampler, own
from schemas.report import Device
from tests.unit.actors.driving import running_renderers
from tests.unit.actors.support import Scheduler

LIBRARY = Path(__file__).parents[2] / "support" / "nvml.c"
READ = "import sys; from actors.device import sampler; print(sampler(sys.argv[1]).read().model_dump_json())"
NVML_DEVICE = Device(
    uuid="GPU-11111111-aaaa",
    utilisation=0.75,
    memory_used_bytes=1000,
    memory_total_bytes=80000,
    power_watts=350.5,
    power_limit_watts=700.0,
    energy_joules=5_000_000_000.25,
    temperature_celsius=61.0,
    throttled=(),
    ecc_corrected=12,
    ecc_uncorrected=3,
)


@dataclass
class Driver:
    folder: Path

    def read(self, visible: str | None = "0", device: str = "auto", **says: str) -> Device:
        """By a process that finds this driver. Its library can't be loaded into this one: it would stay."""
        kept = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        environment = {**kept, **says, "LD_LIBRARY_PATH": str(self.folder)}
        if visible is not None:
            environment["CUDA_VISIBLE_DEVICES"] = visible
        said = subprocess.run(
            [sys.executable, "-W", "error", "-c", READ, device], env=environment, check=True, capture_output=True
        )
        return Device.model_validate_json(said.stdout)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is missing, which makes the library that stands for a driver's")
    folder = tmp_path_factory.mktemp("driver")
    made = [compiler, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1")]
    subprocess.run([*made, str(LIBRARY)], check=True)
    return Driver(folder)


def test_every_figure_of_a_gpu_comes_in_our_units(driver: Driver) -> None:
    assert driver.read() == NVML_DEVICE


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        ("MemoryInfo", ("memory_used_bytes", "memory_total_bytes")),
        ("UtilizationRates", ("utilisation",)),
        ("PowerUsage", ("power_watts",)),
        ("EnforcedPowerLimit", ("power_limit_watts",)),
        ("TotalEnergyConsumption", ("energy_joules",)),
        ("Temperature", ("temperature_celsius",)),
        ("ThrottleReasons", ()),
        ("TotalEccErrors", ("ecc_corrected", "ecc_uncorrected")),
    ],
)
def test_a_figure_that_the_driver_does_not_have_is_missing_alone(
    driver: Driver, call: str, fields: tuple[str, ...]
) -> None:
    assert driver.read(NVML_LACKS=call) == NVML_DEVICE.model_copy(update=dict.fromkeys(fields))


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (pynvml.nvmlClocksThrottleReasonGpuIdle, ()),
        (pynvml.nvmlClocksThrottleReasonApplicationsClocksSetting, ()),
        (pynvml.nvmlClocksThrottleReasonSwPowerCap, ("power",)),
        (pynvml.nvmlClocksThrottleReasonSwThermalSlowdown, ("thermal",)),
        (
            pynvml.nvmlClocksThrottleReasonHwSlowdown | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
            ("thermal", "hardware"),
        ),
        (
            pynvml.nvmlClocksThrottleReasonHwSlowdown | pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
            ("power", "hardware"),
        ),
    ],
)
def test_it_is_said_what_holds_the_clocks_down(driver: Driver, bits: int, reasons: tuple[str, ...]) -> None:
    assert driver.read(NVML_REASONS=str(bits)).throttled == reasons


@pytest.mark.parametrize(
    ("visible", "device", "uuid"),
    [
        ("1", "auto", "GPU-22222222-bbbb"),
        ("1,0", "cuda:1", "GPU-11111111-aaaa"),
        ("GPU-22222222-bbbb", "auto", "GPU-22222222-bbbb"),
        ("GPU-2222", "auto", "GPU-22222222-bbbb"),
        (None, "cuda:1", "GPU-22222222-bbbb"),
        ("0", "cpu", ""),
        ("", "auto", ""),
        ("7", "auto", ""),
        ("GPU-9", "auto", ""),
    ],
)
def test_a_renderer_looks_at_the_gpu_that_ray_gave_it(
    driver: Driver, visible: str | None, device: str, uuid: str
) -> None:
    assert driver.read(visible, device).uuid == uuid


def test_of_a_part_of_a_gpu_only_what_is_its_own_is_said(driver: Driver) -> None:
    said = driver.read("MIG-33333333-cccc")
    assert said == Device(
        uuid="MIG-33333333-cccc",
        memory_used_bytes=1001,
        memory_total_bytes=10000,
        temperature_celsius=62.0,
        ecc_corrected=13,
        ecc_uncorrected=4,
    )


def test_without_a_driver_the_machine_is_looked_at(driver: Driver) -> None:
    said = driver.read(NVML_DOWN="1")
    assert (said.uuid, said.memory_total_bytes) == ("", psutil.virtual_memory().total)


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("auto", None, "0"),
        ("cuda:2", None, "2"),
        ("auto", "-1", None),
        ("auto", "NoDevFiles", None),
        ("cuda:1", "3", None),
        ("cuda:1", "3, GPU-1", "GPU-1"),
    ],
)
def test_whose_gpu_it_is_stands_in_the_environment(device: str, visible: str | None, expected: str | None) -> None:
    assert own(device, visible) == expected


def test_the_machine_tells_how_busy_its_cpus_were_and_what_memory_is_taken() -> None:
    machine = Machine()
    began = psutil.cpu_times()
    while sum(psutil.cpu_times()) - sum(began) < 1.0:  # this very loop keeps one CPU busy
        pass
    said = machine.read()
    assert said.utilisation is not None
    assert 0.5 / (psutil.cpu_count() or 1) < said.utilisation <= 1.0
    assert said.memory_used_bytes is not None
    assert said.memory_total_bytes is not None
    assert 0 < said.memory_used_bytes < said.memory_total_bytes == psutil.virtual_memory().total
    assert (said.power_watts, said.energy_joules, said.throttled) == (None, None, ())


def test_a_renderer_says_it_with_each_of_its_reports(tmp_path: Path) -> None:
    with running_renderers(tmp_path) as made:
        said = Scheduler(made(device="cpu")).collect(wait=0.0).device
    assert said.memory_total_bytes == psutil.virtual_memory().total


def test_a_driver_in_trouble_is_not_noticed_by_whoever_asks_for_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Sampler) -> None:
        raise OSError("the driver is in trouble")

    monkeypatch.setattr(Sampler, "_found", broken)
    with running_renderers(tmp_path) as made:
        answer = Scheduler(made()).collect(wait=0.0)
    assert (answer.device, answer.fault) == (Device(), "")


# how often, and what goes wrong


class Looks:
    """A source whose looks are counted, and may hang or fail."""

    def __init__(self) -> None:
        self.count, self.fails = 0, False
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()

    def __call__(self) -> Device:
        self.count += 1
        self.begun.set()
        self.may_end.wait()
        if self.fails:
            raise OSError("the driver is in trouble")
        return Device(uuid=f"look {self.count}")


@dataclass
class Sampled:
    sampler: Sampler
    looks: Looks
    now: float = 0.0


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> Sampled:
    looks = Looks()
    found = Sampled(Sampler("cpu", monotonic=lambda: found.now), looks)
    monkeypatch.setattr(found.sampler, "_found", lambda: looks)
    return found


def test_many_reports_in_a_second_cost_one_look(sampled: Sampled) -> None:
    assert [sampled.sampler.read().uuid for _ in range(3)] == ["look 1"] * 3
    sampled.now += EVERY
    assert [sampled.sampler.read().uuid for _ in range(3)] == ["look 2"] * 3


def test_a_look_that_hangs_holds_up_nobody_else(sampled: Sampled) -> None:
    sampled.sampler.read()
    sampled.looks.may_end.clear()
    sampled.looks.begun.clear()
    sampled.now += EVERY
    thread = threading.Thread(target=sampled.sampler.read)
    thread.start()
    assert sampled.looks.begun.wait(60)
    assert sampled.sampler.read().uuid == "look 1"
    sampled.looks.may_end.set()
    thread.join()
    assert sampled.sampler.read().uuid == "look 2"


def test_the_look_that_hangs_holds_up_the_one_that_began_it_for_a_moment_only(
    sampled: Sampled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.device.PATIENCE", 0.01)
    sampled.sampler.read()
    sampled.looks.may_end.clear()
    sampled.now += EVERY
    caller = threading.Thread(target=sampled.sampler.read, daemon=True)
    caller.start()
    caller.join(30)
    assert not caller.is_alive()
    sampled.now += STALE
    assert sampled.sampler.read().uuid == "look 1"
    sampled.now += EVERY
    assert sampled.sampler.read() == Device(), "what was true half a minute ago is not shown as if it were now"
    assert sampled.looks.count == 2, "the driver is asked one thing at a time"
    sampled.looks.may_end.set()


def test_a_look_that_fails_says_nothing_and_the_next_may_succeed(sampled: Sampled) -> None:
    sampled.sampler.read()
    sampled.looks.fails = True
    sampled.now += EVERY
    assert sampled.sampler.read() == Device()
    sampled.looks.fails = False
    sampled.now += EVERY
    assert sampled.sampler.read().uuid == "look 3"
