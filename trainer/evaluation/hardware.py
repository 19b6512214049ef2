"""What a model's costs were measured on: they mean nothing without it."""

import platform
from pathlib import Path
from typing import Any

import torch

CPUINFO = Path("/proc/cpuinfo")


def measured_on(model: torch.nn.Module) -> dict[str, Any]:
    """{"hardware", "threads", "precision"} of a measurement made now: the name of the processor or accelerator, the
    threads of the processor, and the number format of the weights, such as float32.
    """
    parameter = next(model.parameters())
    cuda = parameter.device.type == "cuda"
    return {
        "hardware": torch.cuda.get_device_name(parameter.device) if cuda else processor(),
        "threads": torch.get_num_threads(),
        "precision": str(parameter.dtype).removeprefix("torch."),
    }


def processor() -> str:
    """The name of this machine's processor."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
