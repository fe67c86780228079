"""Things a recipe refers to by name: schedules and optimizers. Torch is imported only when an optimizer is built."""
