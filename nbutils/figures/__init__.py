"""Figures: one module per notebook topic, one look for all."""
