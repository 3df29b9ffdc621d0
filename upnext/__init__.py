"""Upnext's shared core: contracts, settings, errors, ports and their adapters, and the command line."""

__version__ = "0.1.0"
