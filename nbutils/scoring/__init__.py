"""Spans and arrays in, numbers out: scores, intervals and tests that know nothing of a study."""
