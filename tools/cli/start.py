"""Where `redwire` begins: Ctrl-C waits until everything else is imported, and then ends it as at any time."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line and exit, as `tools.cli.main.main` does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    from cluster.standard_streams import fill_standard_streams

    fill_standard_streams()
    from tools.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
