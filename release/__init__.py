"""Makes the offline bundle out of a commit: a tool of the build, no part of the product."""
