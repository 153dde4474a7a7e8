"""What made a step slower: two recordings side by side, the cause first."""

import torch

import diagnose

device = "cuda" if torch.cuda.is_available() else "cpu"
linear = torch.nn.Linear(256, 256, device=device)
norm = torch.nn.LayerNorm(256, device=device)
x = torch.randn(1024, 256, device=device)


def before() -> None:
    with torch.no_grad():
        linear(x).relu()


def after() -> None:
    with torch.no_grad():
        y = linear(x).relu()
        for _ in range(8):  # somebody's well-meant change
            y = norm(y)


diagnose.measure(before)  # the first recording of a process starts things up
first = diagnose.measure(before, repeat=10)
first.save("baseline.json.gz")  # a saved report is enough: no trace is needed later
second = diagnose.measure(after, repeat=10)

comparison = diagnose.compare("baseline.json.gz", second, fail_on=["step_time:+5%"])
print(comparison)
print("crossed:", comparison.failed)
