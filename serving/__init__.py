"""The funnel and the service around it: retrieve, rank, post-rank, explain."""
