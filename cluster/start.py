"""Where `redwire-node` begins: it hears signals before it imports the half second of everything else."""

from __future__ import annotations

import gc
import sys

from cluster.signals import Signals


def main() -> int:
    """Run the command; the exit code of `cluster.main.main`."""
    signals = Signals()
    signals.hold()
    gc.disable()  # nothing that is imported is garbage; `cluster.main` enables it again for what follows
    from cluster.main import main as command

    return command(signals=signals)


if __name__ == "__main__":
    sys.exit(main())
