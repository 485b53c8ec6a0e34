"""What is done with the study beside its notebooks; `nbutils` never imports it."""
