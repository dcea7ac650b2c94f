"""The inbox at its door: names of its objects, the store's notifications, the receiver that hands them to Prefect."""

PATH = "/notify"
"""Where the receiver takes notifications."""

HEALTH = "/health"
"""Where it answers whoever asks whether it runs."""
