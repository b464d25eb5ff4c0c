"""The dashboard as a whole: in a pretended terminal, and in a real one."""
