"""Keys for tests."""

from datetime import UTC, datetime

from upnext import keys


def make_key(store, *scopes, name="a test's"):
    """A new key in a store: the key itself, and its id."""
    shown, kept = keys.create(name, [keys.Scope(scope) for scope in scopes], datetime.now(UTC))
    store.add(kept)
    return shown, kept.key_id
