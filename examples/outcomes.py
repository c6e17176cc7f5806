"""The four ways in which a write can end: `REDWIRE_URI=reds://… python examples/outcomes.py`."""

from __future__ import annotations

import os
import sys

import anyio

import redwire

URI = os.environ.get("REDWIRE_URI") or sys.exit(
    "set REDWIRE_URI to the cluster, such as reds://app:secret@eu-1.example.net/?ca=certs/ca.pem"
)


async def place(db: redwire.Client, order: str, policy: str | None = None) -> str:
    """Place an order, and say for certain what became of it."""
    try:
        written = await db.put("orders", order, {"item": "lamp"}, policy=policy, timeout_s=5)
    except redwire.Refused as error:
        return f"refused, certainly not written ({error.code})"
    except (redwire.NotConfirmed, redwire.UnknownOutcome) as error:
        # logged, or lost on the way: its key can be asked for, now or later, on any primary
        assert error.key is not None
        try:
            settled = await db.resolve(error.key, timeout_s=30)
        except redwire.RedwireError as verdict:
            if verdict.code == redwire.Code.NOT_FOUND:
                return "not written, and it never will be"
            return f"still not known ({verdict.code}): ask again later, for {error.key}"
        # by the cluster's rule: whether it is where `policy` wanted it, too, is not remembered
        return f"committed after all by {settled.receipt.achieved}, at LSN {settled.receipt.lsn}"
    except redwire.RedwireError as error:
        # any other error, as where no primary was found before the deadline
        return f"certainly not written: {error}"
    return f"committed by {written.receipt.achieved}, at LSN {written.receipt.lsn}"


async def main() -> None:
    """One order that commits, and one that asks for less than the cluster's floor."""
    async with redwire.connect(URI) as db:
        print(f"order 1: {await place(db, 'order-1')}")
        print(f"order 2: {await place(db, 'order-2', policy='local')}")


if __name__ == "__main__":
    anyio.run(main)
