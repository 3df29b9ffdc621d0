"""The command line. Commands live beside what they run and are imported only when called."""
