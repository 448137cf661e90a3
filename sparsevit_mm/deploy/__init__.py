"""From a trained sparse model to a file that other runtimes run, checked against the model itself."""
