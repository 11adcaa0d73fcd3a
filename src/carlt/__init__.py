"""carlt: long-tailed image recognition with CAR, the confusion-aware spectral regularizer (arXiv 2603.16732)."""

__version__ = "0.1.0"
