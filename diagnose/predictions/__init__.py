"""What a step would take on another device, with another batch, another dtype, fused, or as a graph."""
