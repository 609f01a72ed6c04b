"""The panels of dashboard.json, by row."""
