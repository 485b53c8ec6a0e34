"""Decoding that can only copy the note and set tags, and the drafts that make it fast."""
