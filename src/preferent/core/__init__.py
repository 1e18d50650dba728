"""The nouns, the `Scorer` protocol, estimates with intervals, and the error tree. Imports nothing of ours and nothing heavy."""
