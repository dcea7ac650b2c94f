"""Measurements against named peers: same machine, same run, same work, alternating. Run with `make bench`."""
