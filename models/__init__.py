"""The mathematics: catalogue and history types, retrieval models, ranker, metrics, vector index.

No input or output beyond saving and loading; nothing here knows an outside system.
"""
