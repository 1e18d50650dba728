"""A scorer used as a reward: what best-of-n gains, and what it costs in truth."""
