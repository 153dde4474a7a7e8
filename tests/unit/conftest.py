"""Makes the builders beside this folder importable: ``--import-mode=importlib`` puts no test folder on the path."""

import sys
from pathlib import Path

_TESTS = str(Path(__file__).parents[1])
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)
