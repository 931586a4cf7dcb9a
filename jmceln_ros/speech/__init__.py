"""speech_node, piece by piece: where sound comes from, the queue, the one thread that listens."""
