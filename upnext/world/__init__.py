"""A simulated platform whose truth is known: viewers, creators, videos, and what comes of a slate.

:class:`upnext.world.world.World` is the way in; docs/world.md says what it is made of and what it can prove.
"""
