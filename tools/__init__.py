"""The `redwire` command, and what it takes to run several regions on one machine."""
