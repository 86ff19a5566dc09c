"""`python -m sfumato` is the command `sfumato`, so that torchrun and accelerate can launch it."""

from __future__ import annotations

import sys

from sfumato.cli import main

sys.exit(main())
