"""A data set divided: sites, train and held-out pools, public slice, canaries."""
