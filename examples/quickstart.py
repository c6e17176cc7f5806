"""Write, read back elsewhere, and meet a conflict: `REDWIRE_URI=reds://… python examples/quickstart.py`."""

from __future__ import annotations

import os
import sys

import anyio

import redwire

URI = os.environ.get("REDWIRE_URI") or sys.exit(
    "set REDWIRE_URI to the cluster, such as reds://app:secret@eu-1.example.net/?ca=certs/ca.pem"
)


async def main() -> None:
    """Everything that most programs need."""
    async with redwire.connect(URI) as db:
        written = await db.put("products", "lamp", {"name": "lamp", "price": 20})
        print(f"written: {written.receipt}")

        # any node may answer, and none with less than what was just written
        found = await db.get("products", "lamp", read="nearest", at_least=written.receipt.token)
        assert found is not None
        print(f"read: {found.value} at version {found.version}")

        await db.put("products", "lamp", {"name": "lamp", "price": 25}, if_version=found.version)
        try:
            await db.put("products", "lamp", {"name": "lamp", "price": 10}, if_version=found.version)
        except redwire.Conflict as conflict:
            print(f"conflict: it stands at version {conflict.version}, not {found.version}")

        gone = await db.delete("products", "lamp")
        print(f"deleted: {gone.deleted}")


if __name__ == "__main__":
    anyio.run(main)
