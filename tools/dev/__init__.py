"""Regions on a laptop: nodes as processes, and links between them that take their time."""
