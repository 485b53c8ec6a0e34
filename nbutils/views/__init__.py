"""Notes and their entities as HTML pages and widgets."""
