"""AI feedback: automatic step labels from a policy, a checker and a judge, and the endpoints that play these parts."""
