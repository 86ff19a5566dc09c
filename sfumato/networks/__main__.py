"""`python -m sfumato.networks` compiles the fused CPU kernel of group norm and SiLU for this machine and this torch.

It exits with 1 and the compiler's words where that fails; the networks then use torch's own operations.
"""

from __future__ import annotations

import sys

from sfumato.networks.fused import build

if __name__ == "__main__":
    try:
        print(f"The kernel lies at {build()}.")
    except (RuntimeError, OSError) as error:
        sys.exit(f"The kernel could not be compiled, and torch's own operations will be used.\n{error}")
