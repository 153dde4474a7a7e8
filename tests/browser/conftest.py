"""Makes this folder's modules and the builders beside it importable: importlib mode puts no test folder on the path."""

import sys
from pathlib import Path

for folder in (Path(__file__).parent, Path(__file__).parents[1]):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
