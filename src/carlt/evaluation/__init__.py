"""Evaluation of trained networks: metrics of each split, post-hoc methods, the final result."""
