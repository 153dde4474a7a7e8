"""Which batch sizes are nearly free: the time of a step over its size, the knee, and what limits it on either side."""

from collections.abc import Callable

import torch

import diagnose

device = "cuda" if torch.cuda.is_available() else "cpu"
model = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(24)]).eval().to(device)


def make(size: int) -> Callable[[], None]:
    x = torch.randn(size, 64, device=device)  # prepared once a size, outside the times

    def step() -> None:
        with torch.inference_mode():
            model(x)

    return step


found = diagnose.scaling(make, [1, 4, 16, 64, 256, 1024, 4096])
print(found)
found.plot().figure.savefig("scaling.png")
