"""How a cluster is, read from its status document: for the monitor, which draws it, and the doctor."""
