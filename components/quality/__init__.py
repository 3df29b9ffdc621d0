"""Whether the data is fit to learn from: rows into quarantine, suites before training, drift after it."""
