"""Makes the samples in this folder: a made-up fleet of 32 GPUs, the same on every run.

``dcgm_sample.csv.gz`` has DCGM's long form: an instant every 2 s for 5 minutes, and 320 rows an instant (4 hosts, 8
GPUs each, 10 metrics; fewer while a GPU is missing). ``nvidia_smi_sample.csv`` is what nvidia-smi with ``--format=csv``
would have logged on the first host in the first minute.

What happens: training begins on node-1 and stops for a checkpoint every minute; node-2 serves; node-3 trains from the
second minute on, and its GPU 5 gets too hot and slows down; node-4 runs small jobs, and its GPU 3 is gone for 50 s.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

FOLDER = Path(__file__).parent
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
STEP_S = 2
INSTANTS = 150
MODEL = "NVIDIA H100 80GB HBM3"
DRIVER = "570.124.06"
MEMORY_MIB = 81559
RESERVED_MIB = 551
CLOCK_MHZ = 1980
POWER_W = 700
SLOWDOWN_C = 87

SW_THERMAL_SLOWDOWN = 0x20
HW_SLOWDOWN = 0x8
HW_THERMAL_SLOWDOWN = 0x40
GPU_IDLE = 0x1


@dataclass(frozen=True)
class Job:
    """Work on some GPUs of a host, in seconds since the start."""

    name: str
    host: int
    gpus: range
    start_s: int
    end_s: int
    memory_mib: int
    tensor: float
    serving: bool = False

    def load(self, second: int, gpu: int) -> float:
        """How busy it keeps a GPU, 0 to 1."""
        if self.serving:
            return 0.45 + 0.25 * math.sin(second / 23 + gpu) + 0.1 * math.sin(second / 5 + 2 * gpu)
        since = second - self.start_s
        if since < 8 or since % 60 >= 54:  # loading, or writing a checkpoint
            return 0.05
        return 0.97


JOBS = (
    Job("pretrain-7b-0", 1, range(8), 20, 276, 71_200, 0.62),
    Job("chat-serving-0", 2, range(4), 0, 300, 52_480, 0.21, serving=True),
    Job("embed-serving-1", 2, range(4, 6), 30, 270, 18_944, 0.12, serving=True),
    Job("finetune-13b-0", 3, range(8), 70, 284, 63_700, 0.55),
    Job("notebook-3", 4, range(1), 60, 180, 9_216, 0.05, serving=True),
    Job("eval-suite-2", 4, range(2, 5), 24, 240, 33_800, 0.34),
)


@dataclass
class Gpu:
    """One GPU and how it feels."""

    host: int
    index: int
    uuid: str
    random: random.Random
    temperature: float = 31.0
    throttled: bool = False
    job: Job | None = None
    load: float = 0.0
    values: dict[str, str] = field(default_factory=dict)

    @property
    def present(self) -> bool:
        return bool(self.values)

    def advance(self, second: int) -> None:
        """Live through one step."""
        self.values = {}
        if (self.host, self.index) == (4, 3) and 100 <= second < 150:
            self.temperature = 31.0
            return
        self.job = next(
            (j for j in JOBS if j.host == self.host and self.index in j.gpus and j.start_s <= second < j.end_s), None
        )
        self.load = self.job.load(second, self.index) if self.job else 0.0
        if self.load:
            self.load = min(1.0, max(0.0, self.load + self.random.uniform(-0.03, 0.03)))
        hot = (self.host, self.index) == (3, 5)
        speed = 0.55 if self.throttled else 1.0
        power = 68 + self.load * speed * 560
        equilibrium = 29 + power / (9.0 if hot else 14.5) + self.index * 0.4
        self.temperature += (equilibrium - self.temperature) * 0.09
        self.throttled = self.temperature > SLOWDOWN_C if not self.throttled else self.temperature > SLOWDOWN_C - 9
        clock = (CLOCK_MHZ * speed if self.job else 345) // 15 * 15
        reasons = 0 if self.job else GPU_IDLE
        if self.throttled:
            reasons |= HW_SLOWDOWN | HW_THERMAL_SLOWDOWN | SW_THERMAL_SLOWDOWN
        used = self.job.memory_mib if self.job else 4
        tensor = self.job.tensor * self.load * speed if self.job else 0.0
        self.values = {
            "DCGM_FI_DEV_GPU_UTIL": f"{self.load * 100:.0f}",
            "DCGM_FI_DEV_MEM_COPY_UTIL": f"{self.load * 42:.0f}",
            "DCGM_FI_DEV_GPU_TEMP": f"{self.temperature:.0f}",
            "DCGM_FI_DEV_MEMORY_TEMP": f"{self.temperature * 0.9 + 8:.0f}",
            "DCGM_FI_DEV_POWER_USAGE": f"{min(POWER_W, power + self.random.uniform(-3, 3)):.1f}",
            "DCGM_FI_DEV_SM_CLOCK": f"{clock:.0f}",
            "DCGM_FI_DEV_FB_USED": str(used),
            "DCGM_FI_DEV_FB_FREE": str(MEMORY_MIB - RESERVED_MIB - used),
            "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS": str(reasons),
            "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": f"{tensor:.2f}",
        }


def fleet() -> list[Gpu]:
    """The GPUs before the first instant."""
    chance = random.Random(20260302)
    return [
        Gpu(host, index, _uuid(chance), random.Random(host * 8 + index)) for host in range(1, 5) for index in range(8)
    ]


def instants(gpus: list[Gpu]) -> Iterator[tuple[datetime, int]]:
    """Move all GPUs from instant to instant; yields the time and the seconds since the start."""
    for number in range(INSTANTS):
        second = number * STEP_S
        for gpu in gpus:
            gpu.advance(second)
        yield START + timedelta(seconds=second), second


def dcgm_long() -> str:
    """The fleet in DCGM's long form."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    text.write("timestamp,metric_name,gpu_id,device,uuid,modelName,Hostname,container,pod,namespace,value,labels_raw\n")
    gpus = fleet()
    for time, _ in instants(gpus):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ")
        for gpu in gpus:
            host = f"node-{gpu.host}"
            pod = (gpu.job.name.rpartition("-")[0], gpu.job.name, "ml") if gpu.job else ("", "", "")
            for name, value in gpu.values.items():
                labels = {
                    "DCGM_FI_DRIVER_VERSION": DRIVER,
                    "__name__": name,
                    "gpu": str(gpu.index),
                    "instance": f"{host}:9400",
                    "job": "dcgm-exporter",
                }
                raw = ",".join(f'{label}="{text}"' for label, text in labels.items())
                identity = (str(gpu.index), f"nvidia{gpu.index}", gpu.uuid, MODEL, host)
                writer.writerow((stamp, name, *identity, *pod, value, raw))
    return text.getvalue()


def nvidia_smi() -> str:
    """The first host in the first minute, as nvidia-smi writes it."""
    lines = [
        "timestamp, index, name, uuid, pstate, temperature.gpu, fan.speed [%], utilization.gpu [%],"
        " utilization.memory [%], memory.total [MiB], memory.used [MiB], power.draw [W], clocks.current.sm [MHz],"
        " clocks_event_reasons.active, clocks_event_reasons.hw_thermal_slowdown"
    ]
    gpus = fleet()[:8]
    for time, second in instants(gpus):
        if second >= 60:
            break
        for gpu in gpus:
            values = {name.removeprefix("DCGM_FI_DEV_"): value for name, value in gpu.values.items()}
            reasons = int(values["CLOCK_THROTTLE_REASONS"])
            fields = (
                f"{time.strftime('%Y/%m/%d %H:%M:%S')}.{gpu.index * 3:03d}",
                str(gpu.index),
                MODEL,
                gpu.uuid,
                "P0",
                values["GPU_TEMP"],
                "[N/A]",
                f"{values['GPU_UTIL']} %",
                f"{values['MEM_COPY_UTIL']} %",
                f"{MEMORY_MIB} MiB",
                f"{values['FB_USED']} MiB",
                f"{float(values['POWER_USAGE']):.2f} W",
                f"{values['SM_CLOCK']} MHz",
                f"0x{reasons:016x}",
                "Active" if reasons & HW_THERMAL_SLOWDOWN else "Not Active",
            )
            lines.append(", ".join(fields))
    return "\n".join(lines) + "\n"


def _uuid(chance: random.Random) -> str:
    digits = f"{chance.getrandbits(128):032x}"
    return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def main() -> None:
    """Write both files."""
    packed = gzip.compress(dcgm_long().encode(), compresslevel=9, mtime=0)
    (FOLDER / "dcgm_sample.csv.gz").write_bytes(packed)
    (FOLDER / "nvidia_smi_sample.csv").write_text(nvidia_smi())


if __name__ == "__main__":
    main()
