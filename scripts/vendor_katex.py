"""Vendor KaTeX, from the tarball that `npm pack katex@0.19.1` brings.

    npm pack katex@0.19.1
    python scripts/vendor_katex.py katex-0.19.1.tgz

The library, its style sheet and its woff2 fonts are kept in sfumato/learn/katex/: exported lessons and the docs site
typeset their formulas with them, without a network. KaTeX is Khan Academy's, under the MIT licence, kept beside them.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tarfile
from pathlib import Path

KATEX = Path(__file__).parents[1] / "sfumato/learn/katex"
LIBRARY = "fa140498b8cfc8302cbe5e7cb1bdbc1f952bc38b3fa258ede09e73edbf9a74bc"
"""The sha256 of katex.min.js in version 0.19.1."""


def main(tarball: str) -> int:
    (KATEX / "fonts").mkdir(parents=True, exist_ok=True)
    with tarfile.open(tarball) as packed:
        files = {m.name.removeprefix("package/"): packed.extractfile(m) for m in packed.getmembers() if m.isfile()}
        content = {name: file.read() for name, file in files.items() if file}
    if (found := hashlib.sha256(content["dist/katex.min.js"]).hexdigest()) != LIBRARY:
        print(f"katex.min.js of {tarball} has sha256 {found}, not {LIBRARY}: another version?", file=sys.stderr)
        return 1
    style = re.sub(r',url\([^)]*\.(?:woff|ttf)\) format\("[a-z]+"\)', "", content["dist/katex.min.css"].decode())
    (KATEX / "katex.min.css").write_text(style, encoding="utf-8")
    (KATEX / "katex.min.js").write_bytes(content["dist/katex.min.js"])
    (KATEX / "LICENSE").write_bytes(content["LICENSE"])
    for name in content:
        if name.startswith("dist/fonts/") and name.endswith(".woff2"):
            (KATEX / "fonts" / Path(name).name).write_bytes(content[name])
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} katex-0.19.1.tgz")
    sys.exit(main(sys.argv[1]))
