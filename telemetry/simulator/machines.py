"""The hardware of a simulated fleet: which GPUs there are, where they sit, and what each model can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np


@dataclass(frozen=True, slots=True)
class Model:
    """What a GPU's model is like.

    Attributes:
        name: as the driver gives it.
        share: how many hosts of a fleet have it, as a part of all.
        memory_mib: memory of the GPU.
        reserved_mib: what the driver keeps of it.
        idle_w: power with nothing to do.
        limit_w: power the board may draw.
        idle_clock_mhz: clock of the multiprocessors with nothing to do.
        clock_mhz: their highest clock.
        memory_clock_mhz: clock of the memory.
        slowdown_c: temperature at which the GPU slows itself down.
        rise_c_per_w: how much warmer than the air it gets for each watt.
    """

    name: str
    share: float
    memory_mib: int
    reserved_mib: int
    idle_w: float
    limit_w: float
    idle_clock_mhz: int
    clock_mhz: int
    memory_clock_mhz: int
    slowdown_c: int
    rise_c_per_w: float


MODELS: Final = (
    Model("NVIDIA H100 80GB HBM3", 0.6, 81559, 551, 72, 700, 345, 1980, 2619, 87, 0.055),
    Model("NVIDIA A100-SXM4-80GB", 0.25, 81920, 669, 58, 400, 210, 1410, 1593, 89, 0.085),
    Model("NVIDIA L40S", 0.15, 46068, 587, 34, 350, 210, 2520, 9001, 88, 0.11),
)

GPUS_MAX: Final = 1_000_000
GPUS_PER_HOST_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class SimulatedGpu:
    """One GPU of the fleet; its identity is its UUID."""

    uuid: str
    host: str
    index: int
    model: Model

    @property
    def place(self) -> str:
        """``host/index``."""
        return f"{self.host}/{self.index}"


def build_gpus(count: int, per_host: int, rng: np.random.Generator) -> Sequence[SimulatedGpu]:
    """Fill hosts one after the other; all GPUs of a host are of one model."""
    hosts = -(-count // per_host)
    models = rng.choice(len(MODELS), hosts, p=[model.share for model in MODELS])
    random = rng.bytes(16 * count)
    digits = max(3, len(str(hosts)))
    return [
        SimulatedGpu(
            f"GPU-{UUID(bytes=random[16 * number : 16 * number + 16], version=4)}",
            f"node-{number // per_host + 1:0{digits}}",
            number % per_host,
            MODELS[models[number // per_host]],
        )
        for number in range(count)
    ]


class Hardware:
    """The same fleet as columns: of each property of a model, one value a GPU."""

    def __init__(self, gpus: Sequence[SimulatedGpu], rng: np.random.Generator) -> None:
        """Lay out ``gpus``, each a little different from others of its model."""
        models = [gpu.model for gpu in gpus]
        self.host = np.unique([gpu.host for gpu in gpus], return_inverse=True)[1]
        self.memory_mib = np.array([model.memory_mib for model in models], np.float64)
        self.reserved_mib = np.array([model.reserved_mib for model in models], np.float64)
        self.limit_w = np.array([model.limit_w for model in models], np.float32)
        self.idle_clock_mhz = np.array([model.idle_clock_mhz for model in models], np.float32)
        self.clock_mhz = np.array([model.clock_mhz for model in models], np.float32)
        self.memory_clock_mhz = np.array([model.memory_clock_mhz for model in models], np.float64)
        self.slowdown_c = np.array([model.slowdown_c for model in models], np.float32)
        self.idle_w = _spread(np.array([model.idle_w for model in models]), 0.06, rng)
        self.rise_c_per_w = _spread(np.array([model.rise_c_per_w for model in models]), 0.06, rng)
        # The air comes in warmer at the back of a rack, and every host stands somewhere else.
        self.inlet_c = rng.uniform(21, 27, self.host.max() + 1).astype(np.float32)[self.host] + np.float32(0.4) * (
            np.array([gpu.index for gpu in gpus], np.float32) % 4
        )


def _spread(values: np.ndarray, part: float, rng: np.random.Generator) -> np.ndarray:
    """Each value moved by a random part of itself."""
    return (values * (1 + part * rng.standard_normal(len(values)).clip(-2, 2))).astype(np.float32)
