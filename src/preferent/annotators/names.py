"""The names that votes and aggregations go by. Imports nothing, so that a command line can print them at once."""

CHOICES = ("a", "b", "tie", "both_good", "both_bad")  # what a judgment of a pair may say besides "skip"
LABEL_MODELS = ("majority", "wawa", "dawid-skene", "dawid-skene-ml", "dawid-skene-map", "one-coin", "mace", "glad")
GRAPH_MODELS = ("bradley_terry", "davidson", "annotator_slope", "crowd_bt")
HIDDEN = "hidden_context"
MODELS = ("auto", *LABEL_MODELS, *GRAPH_MODELS, HIDDEN)
