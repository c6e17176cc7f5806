"""Where `redwire-node` begins: it hears signals before it imports the half second of everything else."""

from __future__ import annotations

import gc
import sys
from contextlib import redirect_stdout
from io import StringIO

from cluster.signals import Signals
from cluster.standard_streams import all_said, fill_standard_streams


def main() -> int:
    """Run the command; the exit code of `cluster.main.main`."""
    fill_standard_streams()
    signals = Signals()
    signals.hold()
    gc.disable()  # nothing that is imported is garbage; `cluster.main` enables it again for what follows
    from cluster.main import main as command

    with redirect_stdout(StringIO()) as said:  # held back, also where Python would not: it may not leave
        try:
            code = command(signals=signals)
        except SystemExit as end:  # of argparse, after a help or a usage
            code = end.code if isinstance(end.code, int) else 0
    return all_said(code, said.getvalue())


if __name__ == "__main__":
    sys.exit(main())
