"""How well a model finds what a sentence means: metrics, intervals, trivial answers, the loop, the report."""
