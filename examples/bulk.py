"""Many documents without an event loop: `REDWIRE_URI=reds://… python examples/bulk.py`."""

from __future__ import annotations

import os
import sys

import redwire

URI = os.environ.get("REDWIRE_URI") or sys.exit(
    "set REDWIRE_URI to the cluster, such as reds://app:secret@eu-1.example.net/?ca=certs/ca.pem"
)
ROWS = 20_000


def main() -> None:
    """Load rows in pieces, and read them page by page."""
    with redwire.connect_sync(URI) as db:
        rows = [(f"reading-{number:05d}", {"celsius": number % 40}) for number in range(ROWS)]
        inserted = db.insert_many("readings", rows)
        states = {record.status.name for record in inserted.records}
        print(f"{len(inserted.records)} rows in {len(inserted.pieces)} commits, each {' or '.join(states)}")

        hot = sum(row.value["celsius"] > 35 for row in db.scan("readings", at_least=inserted.receipt.token))
        print(f"{hot} of them are above 35 degrees")


if __name__ == "__main__":
    main()
