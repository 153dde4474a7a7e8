"""What limits a training step: two steps are left alone and timed, one warms up, three are recorded."""

import torch

import diagnose

device = "cuda" if torch.cuda.is_available() else "cpu"
layers = [torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.ReLU()) for _ in range(8)]
model = torch.nn.Sequential(*layers).to(device)
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
x = torch.randn(64, 256, device=device)

with diagnose.profile(wait=2, warmup=1, active=3) as p:
    for _ in range(6):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        p.step()  # at the end of each step

print(p.report)
