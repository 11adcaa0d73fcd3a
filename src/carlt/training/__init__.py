"""Training: the LightningModule, how a config becomes its parts, optimizers, loggers and callbacks."""
