"""Feast: what the features are, how they are computed, and the packed store they are served from."""
