"""Where the code runs: device, profile, number format, seeds."""

import importlib.metadata
import os
import platform
import random
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import torch

PROFILES = ("fast", "cpu", "gpu")

T = TypeVar("T")


def device() -> torch.device:
    """Return the GPU if torch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def profile() -> str:
    """Return the profile: ``SEGLAB_PROFILE``, or ``gpu`` with a GPU and ``cpu`` without.

    ``fast`` is a handful of steps for editing, ``cpu`` is what the published book shows, ``gpu``
    makes the same claims with larger images and more steps.
    """
    chosen = os.environ.get("SEGLAB_PROFILE", "")
    if not chosen:
        return "gpu" if torch.cuda.is_available() else "cpu"
    if chosen not in PROFILES:
        raise ValueError(f"SEGLAB_PROFILE is {chosen!r}; expected one of {', '.join(PROFILES)}")
    return chosen


def autocast_dtype(where: torch.device | str) -> torch.dtype:
    """Return the number format in which convolutions run fast on this device.

    bfloat16 where the processor computes in it natively, float16 on older GPUs (these need a
    gradient scaler), float32, which means no autocast, on everything else.
    """
    if torch.device(where).type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def seed_everything(seed: int) -> None:
    """Seed the random numbers of Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 -- libraries that use the global generator
    torch.manual_seed(seed)


def to_array(values: Any) -> np.ndarray:
    """Return an array, a tensor on any device, or numbers in lists, as NumPy's array."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # NumPy lacks it
    return np.asarray(values)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    names = ("seglab", "torch", "torchvision", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def today() -> str:
    """Return the date in UTC, year first; results carry it."""
    return datetime.now(UTC).date().isoformat()


def processor() -> str:
    """Return the name of the processor or GPU that does the work."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


@dataclass(frozen=True)
class Runtime:
    """What ``seglab.setup`` found and chose.

    Attributes
    ----------
    device : torch.device
        Where models run.
    profile : str
        ``fast``, ``cpu`` or ``gpu``.
    dtype : torch.dtype
        Autocast format of the device; float32 means no autocast.
    seed : int
        The seed that was set.
    real : bool
        True if ``SEGLAB_REAL=1``: real data, pretrained weights and paper presets are wanted.
    versions : dict
        Package name to version.
    """

    device: torch.device
    profile: str
    dtype: torch.dtype
    seed: int
    real: bool
    versions: dict[str, str]

    def pick(self, *, fast: T, cpu: T, gpu: T) -> T:
        """Return the value that belongs to the profile."""
        return {"fast": fast, "cpu": cpu, "gpu": gpu}[self.profile]

    def steps(self, *, fast: int, cpu: int, gpu: int) -> int:
        """Return the number of training steps of the profile; ``SEGLAB_STEPS`` overrides it."""
        override = os.environ.get("SEGLAB_STEPS", "")
        if not override:
            return self.pick(fast=fast, cpu=cpu, gpu=gpu)
        if not override.isdigit() or int(override) < 1:
            raise ValueError(f"SEGLAB_STEPS is {override!r}; expected a whole number from 1")
        return int(override)

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        packages = ", ".join(f"{k} {self.versions[k]}" for k in ("seglab", "torch", "torchvision"))
        return f"{self.profile} profile on {self.device}, {dtype}, seed {self.seed}; {packages}"


def _keep_float32() -> None:
    """Keep newer GPUs from rounding what enters a float32 convolution to 10 bits."""
    with warnings.catch_warnings():  # torch 2.9 announces a newer switch, which breaks this one
        warnings.simplefilter("ignore")
        torch.backends.cudnn.allow_tf32 = False


def start(seed: int = 0) -> Runtime:
    """Seed everything and return the Runtime of this process; ``SEGLAB_SEED`` overrides `seed`.

    From here on float32 is float32 on a GPU too; what shall be fast runs under autocast.
    """
    chosen = profile()
    override = os.environ.get("SEGLAB_SEED", "")
    if override and not override.isdigit():
        raise ValueError(f"SEGLAB_SEED is {override!r}; expected a whole number from 0")
    seed = int(override or seed)
    seed_everything(seed)
    _keep_float32()
    where = device()
    return Runtime(
        device=where,
        profile=chosen,
        dtype=autocast_dtype(where),
        seed=seed,
        real=os.environ.get("SEGLAB_REAL", "") == "1",
        versions=versions(),
    )
