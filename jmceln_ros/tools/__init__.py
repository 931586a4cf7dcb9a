"""Programs beside the nodes: the demo, spoken or not, and the benchmark."""
