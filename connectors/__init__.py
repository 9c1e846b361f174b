"""Modules that read and change one kind of outside system each. They import `pipeline.ports` and `pipeline.model`, never each other."""
