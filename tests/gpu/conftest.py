"""Makes the modules beside this folder importable: ``--import-mode=importlib`` puts no test folder on the path.

Stands alone: on a machine without hypothesis these tests run without the conftest above (``benchmarks/gpu/run.py``).
"""

import sys
from pathlib import Path

import pytest

_TESTS = str(Path(__file__).parents[1])
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)


def pytest_runtest_setup(item: pytest.Item) -> None:
    import torch

    if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU: torch sees none")
