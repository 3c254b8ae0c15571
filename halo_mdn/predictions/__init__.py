"""What parameters predict: numbers of halos by environment and mass, clustering, sub-boxes."""
