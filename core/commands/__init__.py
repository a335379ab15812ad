"""The commands of `python -m core`, a file for each few that belong together. Each imports what it needs when it is called."""
