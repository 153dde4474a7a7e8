"""Makes ``derivation`` importable: with ``--import-mode=importlib`` pytest puts no test folder on the path."""

import sys
from pathlib import Path

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)
