"""Networks without their last layer: one file each, and libraries of them."""
