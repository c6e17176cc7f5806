"""A whole cluster in one thread: real nodes over a simulated network, disk and clock, from one seed.

Nodes are `cluster.process.Process` itself, with real logs and states in memory-backed files. Simulated are
time (`loop`), lines (`network`), when disk and apply work and what a crash leaves of them (`machines`), and
people: those who write (`load`) and those who operate and break (`trouble`). `check` says what must hold.
"""
