"""What the machine can do at most, and how much of it a run uses: peak speed, model FLOPs utilisation, memory."""

from __future__ import annotations

import re
import resource
import sys
from dataclasses import dataclass

import torch

PEAKS: dict[str, tuple[float, float | None]] = {
    "GB200": (2500e12, 5000e12),
    "B200": (2250e12, 4500e12),
    "B100": (1750e12, 3500e12),
    "GH200": (989.4e12, 1978.9e12),
    "H200 NVL": (835.5e12, 1671e12),
    "H200": (989.4e12, 1978.9e12),
    "H100 PCIe": (756e12, 1513e12),
    "H100 NVL": (835.5e12, 1671e12),
    "H100": (989.4e12, 1978.9e12),
    "H800 PCIe": (756e12, 1513e12),
    "H800": (989.4e12, 1978.9e12),
    "H20": (148e12, 296e12),
    "A100": (312e12, None),
    "A800": (312e12, None),
    "A40": (149.7e12, None),
    "A30": (165e12, None),
    "A10G": (70e12, None),
    "A10": (125e12, None),
    "L40S": (362e12, 733e12),
    "L40": (181e12, 362e12),
    "L4": (121e12, 242e12),
    "RTX 6000 Ada": (364.2e12, 728.5e12),
    "RTX A6000": (154.8e12, None),
    "RTX 5090": (209.5e12, 419e12),
    "RTX 4090": (165.2e12, 330.3e12),
    "RTX 3090": (71e12, None),
}
"""Dense peak of the matrix units in FLOP/s, (bfloat16 adding in float32, fp8), by a part of the device's name: NVIDIA's data
sheets, halved where they count sparse matrices. The first that fits counts."""


OTHER = frozenset({"Laptop", "Max-Q", "Ti", "SUPER", "D"})
"""Words in the names of GPUs that are not what their number says."""


@dataclass(frozen=True)
class Peak:
    """What utilisation is measured against; without `flops`, `why` says why there is none."""

    flops: float | None
    why: str = ""


def peak_of(name: str, dtype: str) -> Peak:
    """The peak of a GPU by the name that its driver gives and the type of the products: bfloat16, fp8 or float32.

    A GPU without fp8 units is measured by bfloat16. A part of a GPU (MIG), a GPU that `PEAKS` does not list and products in
    float32, whose units a setting of PyTorch decides, have none.
    """
    if dtype not in ("bfloat16", "fp8"):
        return Peak(None, f"no peak is known for {dtype}")
    if "MIG" in name.split():
        return Peak(None, f"{name} is a part of a GPU")
    if OTHER.intersection(name.split()):
        return Peak(None, f"the peak of {name!r} is not known")
    for part, (wide, narrow) in PEAKS.items():
        if re.search(rf"(?<![A-Za-z0-9]){re.escape(part)}(?![A-Za-z0-9])", name):
            return Peak(narrow if dtype == "fp8" and narrow else wide)
    return Peak(None, f"the peak of {name!r} is not known")


def device_peak(device: torch.device, dtype: str) -> Peak:
    """The peak of the device at hand for products of a type (`auto` is bfloat16, as training has it on a GPU)."""
    if device.type != "cuda":
        return Peak(None, "there is none on a CPU")
    return peak_of(torch.cuda.get_device_name(device), "bfloat16" if dtype == "auto" else dtype)


def memory(device: torch.device) -> dict[str, int]:
    """Bytes at most so far: on a GPU `memory_allocated` by tensors and `memory_reserved`, else `memory`, resident."""
    if device.type == "cuda":
        allocated, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
        return {"memory_allocated": allocated, "memory_reserved": reserved}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"memory": most if sys.platform == "darwin" else most * 1024}
