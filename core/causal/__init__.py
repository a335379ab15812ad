"""What units do to the output: changing them while the subject runs, and measuring what follows."""
