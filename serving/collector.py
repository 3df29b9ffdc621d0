"""Python's garbage collector, told what is not garbage."""

import gc


def settle() -> None:
    """Collect once, then leave what is alive out of all collections to come, until settled again.

    A release and the libraries are some two hundred thousand objects that stay for hours. Each full
    collection would look at all of them while every request waits. What is no longer referred to is freed as
    ever; only cycles among what was settled wait until the next time, so call this after each swap.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
