"""One file for each kind of data; each has a function that gives an `ImageDataset`."""
