"""The Poisson-process likelihood of halos given a field, and its gradients."""
