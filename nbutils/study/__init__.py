"""The study: its file, corpora, systems and notebooks, one run at a time, and what the runs leave."""
