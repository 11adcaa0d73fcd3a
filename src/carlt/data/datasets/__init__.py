"""One data module per data set."""
