"""Experiments on the way of a request: who gets which variant, what it changes, and whether that mattered."""
