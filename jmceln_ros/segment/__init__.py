"""segment_node, piece by piece: what is worked on next, the worker, the model, what comes in and goes out."""
