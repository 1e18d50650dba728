"""Backbone, head, render spec and calibration, saved as one folder that loads everywhere; attention over packed, prompt-sharing rows."""
