"""Measuring: throughput, latency, CPU, bytes and memory of a cluster on this machine, beside PostgreSQL's."""
