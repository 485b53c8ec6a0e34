"""What the runs say: one module per notebook topic, from runs and corpora to tables."""
