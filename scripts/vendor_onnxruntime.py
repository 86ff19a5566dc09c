"""Vendor onnxruntime-web for the playground, from the tarball that `npm pack onnxruntime-web@1.30.0` brings.

    npm pack onnxruntime-web@1.30.0
    python scripts/vendor_onnxruntime.py onnxruntime-web-1.30.0.tgz

Three files of its dist/ are kept, compressed, in sfumato/learn/playground/runtime/: the interface, the loader and the
WebAssembly for one thread of the processor. ONNX Runtime is Microsoft's, under the MIT licence, which lies beside them.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
import tarfile
from pathlib import Path

RUNTIME = Path(__file__).parents[1] / "sfumato/learn/playground/runtime"
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""The files, with the sha256 of each in version 1.30.0."""


def main(tarball: str) -> int:
    RUNTIME.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tarball) as packed:
        for name, expected in FILES.items():
            member = packed.extractfile(f"package/dist/{name}")
            content = member.read() if member else b""
            if (found := hashlib.sha256(content).hexdigest()) != expected:
                print(f"{name} of {tarball} has sha256 {found}, not {expected}: another version?", file=sys.stderr)
                return 1
            target = RUNTIME / f"{name}.gz"
            target.write_bytes(gzip.compress(content, 9, mtime=0))
            print(f"{target.name}: {target.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} onnxruntime-web-1.30.0.tgz")
    sys.exit(main(sys.argv[1]))
