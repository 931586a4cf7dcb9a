"""speech_node, piece by piece: where sound comes from, the queue, the watch over it, the one thread that listens."""
