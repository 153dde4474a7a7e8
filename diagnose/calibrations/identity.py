"""Which very device this is: what a calibration is kept by."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from diagnose.calibrations.calibrated import Identity
from diagnose.calibrations.nvml import find_card
from diagnose.processor import cpu_facts

_MACHINE_ID: Final = Path("/etc/machine-id")


def cpu_identity(threads: int) -> Identity:
    """This machine's processor, with as many threads of torch's."""
    import torch

    facts = cpu_facts(threads)
    return Identity(
        kind="cpu",
        name=facts.model or "unknown processor",
        uuid=_machine(facts.physical_cores),
        torch=str(torch.__version__),
        threads=threads,
    )


def _machine(cores: int | None, path: Path = _MACHINE_ID) -> str:
    """A digest: a home folder may be shared by machines, and the machine's own id is nobody's business."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # a container, as a rule: all that runs in it counts as one machine
        text = ""
    return hashlib.sha256(f"torch-diagnose {text} {cores} cores".encode()).hexdigest()[:16]


def gpu_identity(index: int) -> Identity:
    """The CUDA (or ROCm) device of that index in this process."""
    import torch

    device: Any = torch.cuda.get_device_properties(index)
    uuid = str(device.uuid) if hasattr(device, "uuid") else None
    card = None if uuid is None else find_card(uuid)
    return Identity(
        kind="gpu",
        name=device.name,
        uuid=uuid,
        driver=None if card is None else card.driver,
        torch=str(torch.__version__),
        power_limit_w=None if card is None else card.power_limit_w,
        sms=device.multi_processor_count,
        memory_bytes=device.total_memory,
    )
