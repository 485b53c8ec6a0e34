"""Prompting a model as it is: prompts, answers and what they cost, and where a note may go."""
