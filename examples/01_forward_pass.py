"""What limits one forward pass: wrap it, print the report, keep the recording."""

import torch

import diagnose

device = "cuda" if torch.cuda.is_available() else "cpu"
model = torch.nn.TransformerEncoderLayer(d_model=256, nhead=4, dim_feedforward=1024, batch_first=True)
model = model.eval().to(device)
x = torch.randn(8, 128, 256, device=device)

with torch.no_grad():
    model(x)  # the first call compiles, allocates and tunes: it is not the one to look at
    with diagnose.profile() as p:
        model(x)

print(p.report)
p.save("forward_pass.json.gz")  # `diagnose report forward_pass.json.gz` prints the same again
