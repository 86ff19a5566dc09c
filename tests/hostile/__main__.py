"""`python -m tests.hostile [BEGINNING OF A NAME ...]` runs the cases whose names begin so, and prints what is wrong."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.hostile.cases import all_cases, fixed
from tests.hostile.judge import Verdict, table, verdicts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument("parts", nargs="*", help="beginnings of names, such as npz/")
    parser.add_argument("--fixed", action="store_true", help="only the ones of the default tests")
    parser.add_argument("--list", action="store_true", help="list their names and run nothing")
    parser.add_argument("--show", action="store_true", help="show what each printed")
    parser.add_argument("--step", type=int, default=1, help="only every so many")
    asked = parser.parse_args()
    chosen = [case for case in (fixed() if asked.fixed else all_cases())
              if not asked.parts or any(case.full_name.startswith(part) for part in asked.parts)][:: asked.step]
    if asked.list:
        print("\n".join(f"{case.full_name} ({case.expect})" for case in chosen).encode("utf-8",
            "backslashreplace").decode())
        return 0
    found: list[Verdict] = []
    folder = tempfile.mkdtemp()
    try:
        for verdict in verdicts(chosen, Path(folder)):
            found.append(verdict)
            if verdict.faults or asked.show:
                print(verdict, flush=True)
            if asked.show:
                print(*(verdict.came[name] for name in ("stdout", "stderr", "error")),
                      f"{verdict.came['seconds']:.2f} s", sep="\n")
    finally:
        subprocess.run(["rm", "-rf", folder], check=False)  # some lie deeper than Python's own removal goes
    print(table(found))
    return int(any(verdict.faults for verdict in found))


if __name__ == "__main__":
    begun = time.monotonic()
    code = main()
    print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)
    sys.exit(code)
