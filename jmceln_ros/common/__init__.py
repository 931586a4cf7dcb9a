"""What all nodes share: life cycle, parameters, QoS, diagnostics, images."""
