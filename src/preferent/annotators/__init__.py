"""From judgments to preferences, and simulated annotators whose faults are known."""
