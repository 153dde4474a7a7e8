"""Calibrates the device twice and says whether the two agree: ``calibrate.json``.

python -m benchmarks.gpu.calibrate --out DIR [--quick] [--device cpu]
"""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks.gpu.environment import Options, options_of, say, why_unusable, write_result


def run(options: Options) -> dict[str, Any]:
    """Quick calibrations on a CPU, with ``--quick``, and with tiny sizes; the user's cache is left alone."""
    reason = why_unusable()
    if reason:
        raise SystemExit(f"calibrate: {reason}")
    from diagnose.calibrating import calibrate
    from diagnose.calibrations.calibrated import repeat_sentence

    is_quick = options.is_quick or options.is_small
    times = 1 if options.is_small else 2
    found = [calibrate(quick=is_quick, device=options.device, save=False) for _ in range(times)]
    for each in found:
        say(str(each))
    repeat = repeat_sentence(found[0].calibrated, found[-1].calibrated) if times == 2 else None
    kept = [json.loads(each.to_json()) for each in found]
    for each in kept:
        each.get("identity", {}).pop("uuid", None)  # results are shown; which very card it was is nobody's business
    body = {"quick": is_quick, "repeat": repeat, "calibrations": kept}
    write_result(options, "calibrate", body)
    return body


def main() -> int:
    run(options_of(__doc__ or ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
