"""The inference engine: schedules sequences, runs them on llama.cpp, turns tokens into text. Used by the worker."""
