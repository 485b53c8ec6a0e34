"""A trained run put to work on a folder of notes."""
