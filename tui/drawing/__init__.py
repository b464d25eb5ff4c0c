"""From figures to lines of text. Pure: what is drawn depends on the arguments alone."""
