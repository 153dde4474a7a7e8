"""Kernels under the roof of their device: ceilings, placing, and why a kernel is far below."""
