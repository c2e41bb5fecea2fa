"""Where the model of a cell comes from: a training of the study, or a file that was there before it."""
