"""The verbs of the `redwire` command, one module each."""
