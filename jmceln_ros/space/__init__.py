"""Where in space a target is: depth images, and which of them belongs to which frame."""
