"""Losses, batches, the loop, its settings: preferences in, a checkpoint folder out."""
