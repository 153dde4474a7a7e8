"""Four ranks, one of them slow on purpose: who waits for whom, and what the slow one does instead.

    torchrun --nproc-per-node 4 examples/04_many_ranks.py out/
    diagnose report out/

Alone (`python examples/04_many_ranks.py [out/]`) it starts its four processes itself. It runs on the CPU, with gloo.
"""

import os
import sys
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import diagnose

RANKS = 4
SLOW = 2


def train(folder: str) -> None:
    """Five steps of data-parallel training on this rank; three are recorded, into ``folder/rank{r}.json.gz``."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(dist.get_rank())
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(256, 256))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with diagnose.profile(wait=1, warmup=1, active=3, out=folder) as p:
        for _ in range(5):
            batch = torch.randn(64, 256)
            if dist.get_rank() == SLOW:
                time.sleep(0.03)  # a slow loader, say
                batch = batch @ torch.randn(256, 1024) @ torch.randn(1024, 256)  # and more work
            model(batch).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            p.step()
    dist.destroy_process_group()


def start(rank: int, folder: str, store: str) -> None:
    """One of the processes that this script starts itself."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(RANKS), MASTER_ADDR="127.0.0.1")
    os.environ["MASTER_PORT"] = store
    train(folder)


def free_port() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="many-ranks-")
    if "RANK" in os.environ:  # torchrun started four of us
        train(folder)
    else:
        mp.spawn(start, args=(folder, free_port()), nprocs=RANKS)
        report = diagnose.read_ranks(folder)
        print(report)
        print(report.reports[0].verdict.verdict)
